"""An evaluation of several workers in a RayJob: how it fares, and whether it is tried again once it was lost.

What the workers have written into the run's folder stays, so the next try goes on from there.
"""

from tunesmith.api.outcome import Overrides
from tunesmith.api.status import Attempt
from tunesmith_operator.job import Job
from tunesmith_operator.observed import Observed, RayJob
from tunesmith_operator.reconcile import diagnosis
from tunesmith_operator.reconcile.decision import Decision, timestamp
from tunesmith_operator.reconcile.ending import (
    INTERRUPTIONS_LIMIT,
    Ending,
    attempt_pods,
    ending,
    follow_up,
    own_ray_job,
)
from tunesmith_operator.settings import Settings

_RETRIES = 2
"""Of a try that left no outcome, as the Job of an evaluation in one pod has them."""


def own(job: Job, seen: Observed, decision: Decision) -> RayJob | None:
    """The RayJob of the try that runs or is next, if it is there and this job's."""
    return own_ray_job(job, _attempt(job, decision), seen)


def active_seconds(job: Job, seen: Observed, decision: Decision) -> float:
    """How long this try has run, queueing excluded."""
    running = own(job, seen, decision)
    if running is None or running.suspended:
        return 0.0
    return max(0.0, (seen.now - (running.started or running.meta.created)).total_seconds())


def conclude(job: Job, running: RayJob, seen: Observed, decision: Decision, settings: Settings) -> Ending | None:
    """Why the evaluation failed for good; None while it goes on, or where another try follows."""
    end = ending(job, _attempt(job, decision, running), seen, 0.0, settings)
    if end is None:
        return None
    retry = None if end.reason == "InternalError" else follow_up(end.reason, Overrides(), 1)
    if retry is None:
        return end
    lost, limit = decision.evaluation_try, _RETRIES if retry.counts else INTERRUPTIONS_LIMIT
    if lost > limit:
        return Ending(end.reason, f"{lost} tries were lost; the last: {end.message}", end.outcome)
    text = f"try {lost} ended with {end.reason}: {end.message}; the next one goes on from what it has left"
    decision.tell("EvaluationLost", text, warning=True, key=str(lost))
    decision.set("Evaluated", "False", "Retrying", text)
    decision.evaluation_retries = lost
    decision.again_in(1.0)
    return None


def watch(job: Job, running: RayJob, seen: Observed, decision: Decision, settings: Settings) -> None:
    """Says how the running try fares."""
    stuck = diagnosis.trouble(attempt_pods(decision.evaluation_number, seen))
    if running.suspended or running.deployment in ("Suspending", "Suspended"):
        decision.set("Evaluated", "False", "Queued", f"waits in queue {job.queue}")
    elif stuck is not None:
        decision.set("Evaluated", "False", stuck.reason, stuck.message, tell="Warning", steady=True)
        decision.again_in(settings.recheck_seconds)
    elif running.trouble:
        decision.set("Evaluated", "False", "PodsRefused", running.trouble, tell="Warning")
    else:
        if running.finished:  # the submitter's message may come a moment later
            decision.again_in(settings.outcome_grace_seconds)
        decision.set("Evaluated", "False", "Evaluating", "evaluates the model")


def _attempt(job: Job, decision: Decision, running: RayJob | None = None) -> Attempt:
    """The try in the terms of an attempt, whose RayJob ends in the same ways."""
    return Attempt(
        number=decision.evaluation_number,
        ray_job=job.evaluation_name(decision.evaluation_try),
        start_time=timestamp(running.meta.created if running is not None else decision.now),
    )
