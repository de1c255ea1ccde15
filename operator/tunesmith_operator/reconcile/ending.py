"""Whether the running attempt is over, why, and what follows: the recovery policy of the design."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast, get_args

from tunesmith.api.outcome import Outcome, Overrides, Reason, Retry, next_attempt
from tunesmith.api.status import Attempt
from tunesmith_operator.job import Job
from tunesmith_operator.observed import Observed, Pod, RayJob
from tunesmith_operator.reconcile import diagnosis
from tunesmith_operator.settings import Settings

INTERRUPTIONS_LIMIT = 20
"""Attempts that may end without counting, suspension excluded, so that nothing goes on for ever."""

_SAME_POLICY: dict[str, Reason] = {"RayJobDeleted": "WorkerLost", "Suspended": "Interrupted"}
"""Reasons of the operator's own that are followed like one of the trainer's; any other of its own ends the job."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended."""

    reason: str
    message: str
    outcome: Outcome | None = None


def ending(job: Job, attempt: Attempt, seen: Observed, active: float, settings: Settings) -> Ending | None:
    """How the attempt ended; None while it goes on.

    Args:
        active: seconds that the whole job has run so far.
    """
    pods = attempt_pods(attempt.number, seen)
    submitters = [pod for pod in pods if pod.component == "submitter"]
    training = [pod for pod in pods if pod.component in diagnosis.TRAINING]
    ray_job = own_ray_job(job, attempt, seen)
    left = diagnosis.outcome(submitters)
    if left is not None and (diagnosis.knows_its_end(submitters) or ray_job is None or ray_job.finished):
        return _told(left, training)
    if job.spec.suspend:
        return Ending("Suspended", "spec.suspend is set")
    deadline = job.spec.active_deadline_seconds
    if deadline is not None and active >= deadline:
        return Ending("DeadlineExceeded", f"the job has run for spec.activeDeadlineSeconds ({deadline})")
    if ray_job is None or ray_job.meta.deleted is not None:
        return Ending("RayJobDeleted", f"somebody deleted RayJob {attempt.ray_job}")
    if (killed := diagnosis.out_of_memory(training)) is not None:
        return Ending("OutOfMemory", f"pod {killed.meta.name} was killed for using more memory than its limit")
    if ray_job.deployment == "ValidationFailed":
        return Ending("RayJobRejected", f"KubeRay refused the RayJob: {ray_job.message}")
    if ray_job.finished:
        return _untold(ray_job, attempt, training, seen.now, settings)
    return _stuck(pods, seen.now, settings)


def _told(left: Outcome, training: list[Pod]) -> Ending:
    """The trainer may not know that a pod beside it was killed for memory."""
    killed = diagnosis.out_of_memory(training)
    if killed is not None and left.reason in ("WorkerLost", "OutcomeUnknown", "InternalError"):
        text = f"pod {killed.meta.name} was killed for using more memory than its limit"
        return Ending("OutOfMemory", text, left)
    return Ending(left.reason, left.message, left)


def _untold(ray_job: RayJob, attempt: Attempt, training: list[Pod], now: datetime, settings: Settings) -> Ending | None:
    """KubeRay says that it is over; the submitter's message may come a moment later."""
    if now < (ray_job.ended or ray_job.meta.created) + timedelta(seconds=settings.outcome_grace_seconds):
        return None
    said = ": ".join(filter(None, (ray_job.deployment, ray_job.job, ray_job.reason, ray_job.message)))
    if lost := diagnosis.disruption(training) or attempt.message:
        return Ending("WorkerLost", f"{lost} ({said})")
    return Ending("OutcomeUnknown", f"the submitter left no outcome; KubeRay says {said}")


def _stuck(pods: list[Pod], now: datetime, settings: Settings) -> Ending | None:
    stuck = diagnosis.trouble(pods)
    if stuck is None or not diagnosis.hopeless(stuck, now, settings.pod_grace_seconds):
        return None
    return Ending(stuck.reason, stuck.message)


def attempt_pods(number: int, seen: Observed) -> list[Pod]:
    """The pods of an attempt's RayJob."""
    kinds = (*diagnosis.TRAINING, "submitter")
    return [pod for pod in seen.pods.values() if pod.meta.attempt == number and pod.component in kinds]


def own_ray_job(job: Job, attempt: Attempt, seen: Observed) -> RayJob | None:
    """The RayJob of an attempt, if it is there and this job's."""
    ray_job = seen.ray_jobs.get(attempt.ray_job)
    return ray_job if ray_job is not None and ray_job.meta.owner == job.uid else None


def follow_up(reason: str, overrides: Overrides, micro_batch_size: int) -> Retry | None:
    """What follows an attempt that ended for this reason; None where nothing may."""
    known = _SAME_POLICY.get(reason, reason)
    return next_attempt(cast(Reason, known), overrides, micro_batch_size) if known in get_args(Reason) else None


def exhausted(attempts: list[Attempt], backoff_limit: int) -> tuple[str, str] | None:
    """The reason and the message when no further attempt may follow."""
    last = attempts[-1]
    if sum(attempt.counted for attempt in attempts) > backoff_limit:
        text = f"spec.backoffLimit ({backoff_limit}) is used up; attempt {last.number} ended with {last.reason}"
        return "BackoffLimitExceeded", f"{text}: {last.message}"
    interrupted = [a for a in attempts if a.end_time and not a.counted and a.reason != "Suspended"]
    if len(interrupted) > INTERRUPTIONS_LIMIT:
        return "TooManyInterruptions", f"{len(interrupted)} attempts were interrupted; the last: {last.message}"
    return None


def no_follow_up(reason: str, message: str) -> str:
    """The message of a job that fails at once: what happened, and what to do where the trainer does not say."""
    remedies = {
        "OutOfMemory": "microBatchSize is 1 already: raise scaling.resources, or set training.gradientCheckpointing, "
        "a shorter training.maxLength or scaling.deepspeed",
        "LossDiverged": "a halved rate did not help: lower training.learningRate and look at the data",
        "DeadlineExceeded": "raise it in a new job; the run's folder stays",
        "RayJobRejected": "this is a defect of Tunesmith, or its version of KubeRay is not supported",
    }
    return f"{message}; {remedies[reason]}" if reason in remedies else message
