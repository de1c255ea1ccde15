"""Attempts: ends the one that is over, watches the one that runs, starts the next."""

from datetime import datetime, timedelta

from tunesmith.api.identity import identity_hash
from tunesmith.api.outcome import LOG_TAIL_LIMIT, Artifacts, Outcome, Overrides
from tunesmith.api.status import Attempt, Progress
from tunesmith_operator.builders.config import config_map
from tunesmith_operator.builders.rayjob import ray_job
from tunesmith_operator.job import Job, Run, changed_fields, spec_hash
from tunesmith_operator.names import CONTENT_HASH
from tunesmith_operator.observed import Observed
from tunesmith_operator.reconcile import diagnosis, sizing, validation
from tunesmith_operator.reconcile.decision import Decision, timestamp
from tunesmith_operator.reconcile.ending import (
    Ending,
    attempt_pods,
    ending,
    exhausted,
    follow_up,
    no_follow_up,
    own_ray_job,
)
from tunesmith_operator.reconcile.validation import Obstacle
from tunesmith_operator.settings import Settings

_KEPT_TAILS = 3
_LONGEST_DELAY = 300.0
_DELETION_SLACK = timedelta(seconds=60)
"""A pod on a lost node stays in deletion for ever."""


def running(decision: Decision) -> Attempt | None:
    """The attempt that is not over."""
    last = decision.attempts[-1] if decision.attempts else None
    return last if last is not None and last.end_time is None else None


def conclude(job: Job, seen: Observed, decision: Decision, settings: Settings) -> None:
    """Ends the running attempt if it is over, and the job with it where nothing may follow."""
    attempt = running(decision)
    if attempt is None:
        return
    end = ending(job, attempt, seen, active_seconds(job, seen, decision), settings)
    if end is None:
        return
    retry = follow_up(end.reason, attempt.overrides, job.spec.training.micro_batch_size)
    succeeded = end.reason == "Succeeded"
    decision.attempts[-1] = attempt.model_copy(
        update={
            "end_time": timestamp(seen.now),
            "reason": end.reason,
            "message": end.message or None,
            "counted": not succeeded and (retry is None or retry.counts),
            "active_seconds": round(_active_seconds(job, attempt, seen)),
            "log_tail": _tail(end.outcome),
        }
    )
    _forget_old_tails(decision.attempts)
    if end.outcome is not None:
        _take(end.outcome, decision)
    if succeeded:
        decision.set("Running", "False", "Succeeded")
        text = f"attempt {attempt.number} trained the model"
        decision.set("Trained", "True", "Succeeded", text, tell="Normal", key=str(attempt.number))
        for finding in end.outcome.findings if end.outcome is not None else ():
            decision.tell("CurveShows", finding, warning=True, key=f"{attempt.number}-{finding.partition(':')[0]}")
        return
    _failed(end, attempt, job, decision, "" if retry is None else retry.explanation)


def _tail(outcome: Outcome | None) -> str | None:
    """An image of somebody's may leave more than the status takes."""
    left = outcome.log_tail if outcome is not None else None
    return left[-LOG_TAIL_LIMIT:] if left is not None else None


def _forget_old_tails(attempts: list[Attempt]) -> None:
    """A status has room for the last few."""
    told = [index for index, attempt in enumerate(attempts) if attempt.log_tail is not None]
    for index in told[:-_KEPT_TAILS]:
        attempts[index] = attempts[index].model_copy(update={"log_tail": None})


def _failed(end: Ending, attempt: Attempt, job: Job, decision: Decision, follows: str) -> None:
    decision.set("Running", "False", end.reason, end.message)
    if end.reason == "Suspended":
        return
    spent = exhausted(decision.attempts, job.spec.backoff_limit)
    outlook = f"; the next one: {follows}" if follows and spent is None else ""
    text = f"attempt {attempt.number} ended with {end.reason}: {end.message}{outlook}"
    decision.tell("AttemptFailed", text, warning=True, key=str(attempt.number))
    if not follows:
        decision.fail(end.reason, no_follow_up(end.reason, end.message))
    elif spent is not None:
        decision.fail(*spent)


def _take(outcome: Outcome, decision: Decision) -> None:
    """Copies what the trainer left: where the results are, and the last figures."""
    known = decision.artifacts.to_dict() if decision.artifacts else {}
    decision.artifacts = Artifacts.model_validate(known | outcome.artifacts.to_dict())
    if outcome.step is not None and outcome.total_steps:
        decision.progress = Progress(
            step=outcome.step,
            total_steps=outcome.total_steps,
            percentage=100 * outcome.step // outcome.total_steps,
            loss=outcome.metrics.get("loss"),
            validation_loss=outcome.metrics.get("validation/loss"),
            reward=outcome.metrics.get("ppo/reward"),
            tokens_per_second=outcome.metrics.get("tokens_per_second"),
            remaining_seconds=0 if outcome.reason == "Succeeded" else None,
        )


def active_seconds(job: Job, seen: Observed, decision: Decision) -> float:
    """How long the job has run, queueing and suspension excluded."""
    past = sum(attempt.active_seconds or 0 for attempt in decision.attempts)
    attempt = running(decision)
    return past + (_active_seconds(job, attempt, seen) if attempt is not None else 0)


def _active_seconds(job: Job, attempt: Attempt, seen: Observed) -> float:
    ray_job = own_ray_job(job, attempt, seen)
    began = datetime.fromisoformat(attempt.start_time)
    if ray_job is not None and ray_job.suspended:
        return 0
    if ray_job is not None and ray_job.started is not None:
        began = max(began, ray_job.started)
    return max(0.0, (seen.now - began).total_seconds())


def watch(job: Job, seen: Observed, decision: Decision, settings: Settings) -> None:
    """Says how the running attempt fares, and asks for its ConfigMap again if somebody deleted it."""
    attempt = decision.attempts[-1]
    _report_changed_spec(job, seen, decision)
    if attempt.ray_job not in seen.config_maps:
        run = validation.plan_run(job, attempt.number, attempt.overrides, decision.attempts, seen, settings)
        if isinstance(run, Run):
            decision.create(config_map(run))
    ray_job = own_ray_job(job, attempt, seen)
    pods = attempt_pods(attempt.number, seen)
    if lost := diagnosis.disruption(pods):
        decision.attempts[-1] = attempt.model_copy(update={"message": lost})
        if attempt.message != lost:
            decision.tell("PodDisrupted", lost, warning=True, key=f"{attempt.number}/{lost}")
    key = str(attempt.number)
    stuck = diagnosis.trouble(pods)
    if ray_job is not None and (ray_job.suspended or ray_job.deployment in ("Suspending", "Suspended")):
        decision.set("Running", "False", "Queued", f"waits in queue {job.queue}")
    elif stuck is not None:
        decision.set("Running", "False", stuck.reason, stuck.message, tell="Warning", key=key, steady=True)
        decision.again_in(settings.recheck_seconds)
    elif ray_job is not None and ray_job.trouble:
        decision.set("Running", "False", "PodsRefused", ray_job.trouble, tell="Warning", key=key)
    elif ray_job is not None and ray_job.finished:
        decision.set("Running", "False", "Ending", "waits for the outcome")
        decision.again_in(settings.outcome_grace_seconds)
    elif ray_job is not None and ray_job.job == "RUNNING":
        decision.set("Running", "True", "Training")
        decision.poll = tuple(_addresses(job, attempt.number, seen))
        decision.progress = seen.progress or decision.progress
    else:
        decision.set("Running", "False", "Starting", "the Ray cluster starts")
    if job.spec.active_deadline_seconds is not None:
        decision.again_in(max(1.0, job.spec.active_deadline_seconds - active_seconds(job, seen, decision)))


def _report_start(job: Job, decision: Decision) -> None:
    if job.queue:
        decision.set("Running", "False", "Queued", f"waits in queue {job.queue}")
    else:
        decision.set("Running", "False", "Starting", "the Ray cluster starts")


def _addresses(job: Job, number: int, seen: Observed) -> list[str]:
    component = "head" if job.spec.scaling.workers == 1 else "worker"
    pods = [pod for pod in attempt_pods(number, seen) if pod.component == component]
    return sorted(pod.address for pod in pods if pod.phase == "Running" and pod.address)


def _report_changed_spec(job: Job, seen: Observed, decision: Decision) -> None:
    """The CRD refuses such a change; a cluster without its rules does not."""
    record = seen.config_maps.get(decision.attempts[-1].ray_job)
    changed = changed_fields(record.spec_hash, spec_hash(job.spec)) if record is not None else []
    if changed:
        text = f"{', '.join(changed)} changed after the start and is not used: make a new job for it"
        decision.set("Validated", "False", "SpecChanged", text, tell="Warning")
    else:
        decision.set("Validated", "True", "Valid")


def start(job: Job, seen: Observed, decision: Decision, settings: Settings) -> None:
    """Starts the next attempt, once nothing is in its way."""
    last = decision.attempts[-1] if decision.attempts else None
    number = last.number + 1 if last else 1
    overrides = Overrides()
    if last is not None:
        retry = follow_up(last.reason or "", last.overrides, job.spec.training.micro_batch_size)
        overrides = retry.overrides if retry is not None else last.overrides
        if _must_wait(job, last, overrides, seen, decision, settings):
            return
    run = validation.plan_run(job, number, overrides, decision.attempts, seen, settings)
    if isinstance(run, Obstacle):
        validation.report(run, decision, settings)
        return
    if (obstacle := validation.missing(run, seen, decision)) is not None:
        validation.report(obstacle, decision, settings)
        return
    decision.set("Validated", "True", "Valid")
    if seen.refusal is not None:
        refusal = seen.refusal
        decision.set("Running", "False", refusal.reason, refusal.message, tell="Warning", key=str(number))
        decision.again_in(settings.recheck_seconds)
        return
    _create(run, seen, decision, settings)


def _must_wait(
    job: Job, last: Attempt, overrides: Overrides, seen: Observed, decision: Decision, settings: Settings
) -> bool:
    """Whether the last attempt still has pods, or a failure that nothing was changed for was just now."""
    record = validation.newest_config_map(job, seen.config_maps)
    if record is not None and (changed := changed_fields(record.spec_hash, spec_hash(job.spec))):
        text = f"{', '.join(changed)} changed after the start, so the run cannot go on: make a new job"
        decision.fail("SpecChanged", text)
        return True
    if left := left_behind(job, last.number, seen):
        decision.set("Running", "False", "Releasing", f"waits until {left} of attempt {last.number} is gone")
        decision.again_in(settings.recheck_seconds)
        return True
    if overrides != last.overrides or last.reason == "Suspended" or last.end_time is None:
        return False
    same = [a for a in decision.attempts if a.overrides == last.overrides and a.reason != "Suspended"]
    delay = min(_LONGEST_DELAY, settings.retry_seconds * 2.0 ** (len(same) - 1))
    left_seconds = delay - (seen.now - datetime.fromisoformat(last.end_time)).total_seconds()
    if left_seconds <= 0:
        return False
    decision.set("Running", "False", "Retrying", f"the next attempt follows {delay:.0f} s after the last")
    decision.again_in(left_seconds)
    return True


def left_behind(job: Job, number: int, seen: Observed) -> str:
    for ray_job_ in seen.ray_jobs.values():
        former = ray_job_.meta.attempt <= number or ray_job_.meta.deleted is not None
        if ray_job_.meta.owner == job.uid and former and not ray_job_.finished:
            return f"RayJob {ray_job_.meta.name}"
    for pod in seen.pods.values():
        overdue = pod.meta.deleted is not None and seen.now > pod.meta.deleted + _DELETION_SLACK
        if pod.component in diagnosis.TRAINING and pod.meta.attempt <= number and not pod.over and not overdue:
            return f"pod {pod.meta.name}"
    return ""


def pin(run: Run, decision: Decision) -> None:
    """Fixes what the job means from its start on, and where its results are."""
    decision.artifacts = Artifacts(folder=run.folder)
    decision.spec_hash = identity_hash(run.job.spec)


def _create(run: Run, seen: Observed, decision: Decision, settings: Settings) -> None:
    job, name = run.job, run.job.attempt_name(run.attempt)
    config = config_map(run)
    there, running_already = seen.config_maps.get(name), seen.ray_jobs.get(name)
    if there is None:
        decision.create(config)
    elif running_already is None and there.content_hash != config["metadata"]["annotations"][CONTENT_HASH]:
        decision.delete("ConfigMap", name, there.meta.uid)  # the spec was changed before its RayJob was made
        decision.again_in(1)
        return
    if running_already is None:
        decision.create(ray_job(run, settings))
    began = running_already.meta.created if running_already is not None else seen.now
    decision.attempts.append(
        Attempt(number=run.attempt, ray_job=name, start_time=timestamp(began), overrides=run.overrides)
    )
    if run.attempt == 1:
        sizing.warn(job, seen, decision)
    if decision.artifacts is None:
        pin(run, decision)
    text = f"attempt {run.attempt} runs as RayJob {name}"
    decision.tell("AttemptStarted", text, warning=False, key=str(run.attempt))
    _report_start(job, decision)
