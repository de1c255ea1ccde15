"""What should be, from what is observed: pure functions, tested with tables."""

from datetime import datetime

from pydantic import ValidationError

from tunesmith.api.job import MANAGER
from tunesmith.api.load import check
from tunesmith.api.status import JobStatus
from tunesmith_operator.job import Job
from tunesmith_operator.observed import Observed
from tunesmith_operator.reconcile import attempts, diagnosis, evaluation, notifications, validation
from tunesmith_operator.reconcile.decision import Decision
from tunesmith_operator.reconcile.ending import attempt_pods
from tunesmith_operator.reconcile.notifications import with_notifications
from tunesmith_operator.reconcile.plan import Plan
from tunesmith_operator.settings import Settings


def reconcile(seen: Observed, settings: Settings) -> Plan:
    """Decides what is to be done about a FineTuneJob; the same observation always gives the same plan."""
    meta, spec = seen.body["metadata"], seen.body["spec"]
    if meta.get("deletionTimestamp") or spec.get("managedBy", MANAGER) != MANAGER:
        return Plan()
    status = JobStatus.model_validate(seen.body.get("status") or {})
    return with_notifications(_decide(status, seen, settings), seen, status, settings)


def _decide(status: JobStatus, seen: Observed, settings: Settings) -> Plan:
    decision = Decision(status, seen.body["metadata"]["generation"], seen.now)
    if decision.over and (decision.started or status.observed_generation == seen.body["metadata"]["generation"]):
        _wind_down(seen, status, decision)
        return decision.plan()
    decision.drop("Failed")  # a spec that never started may be mended
    job = _valid_job(seen, decision)
    if job is not None:
        _run(job, seen, decision, settings)
    if decision.over and "ttlSecondsAfterFinished" in seen.body["spec"]:
        decision.again_in(seen.body["spec"]["ttlSecondsAfterFinished"])
    return decision.plan()


def _valid_job(seen: Observed, decision: Decision) -> Job | None:
    """The job; None where its spec is not valid, which ends it unless it has begun."""
    try:
        job = Job.parse(seen.body)
    except ValidationError:
        job = None
    if job is not None and decision.started:
        return job  # it was checked when it began
    problems = check(dict(seen.body), "cluster")
    if not problems:
        return job
    text = "; ".join(map(str, problems))
    decision.set("Validated", "False", "InvalidSpec", text)
    if not decision.started:
        decision.fail("InvalidSpec", text)
    return None


def _run(job: Job, seen: Observed, decision: Decision, settings: Settings) -> None:
    attempts.conclude(job, seen, decision, settings)
    if decision.over:
        pass
    elif job.spec.suspend:
        where = " from the last checkpoint" if job.spec.trains else ""
        text = f"spec.suspend is set; unset it to go on{where}"
        decision.set("Suspended", "True", "Suspended", text, tell="Normal", key=str(len(decision.attempts)))
    else:
        if decision.is_true("Suspended"):
            decision.set("Suspended", "False", "Resumed")
        if not decision.started and (refused := notifications.obstacle(seen, settings)) is not None:
            validation.report(refused, decision, settings)
        elif attempts.running(decision) is not None:
            attempts.watch(job, seen, decision, settings)
        elif job.spec.trains and not decision.is_true("Trained"):
            attempts.start(job, seen, decision, settings)
        elif job.spec.evaluation is not None:
            active = attempts.active_seconds(job, seen, decision)
            evaluation.proceed(job, seen, decision, settings, active)
        else:
            evaluation.complete(job, decision)
    _clean_up(job, seen, decision)


def _clean_up(job: Job, seen: Observed, decision: Decision) -> None:
    """Frees what no attempt needs any more, after the status has said why."""
    current = attempts.running(decision)
    stopped = job.spec.suspend or decision.over
    last = decision.evaluation_number - 1  # those of an evaluation that goes on are counted from there
    for ray_job in seen.ray_jobs.values():
        number = ray_job.meta.attempt
        mine = ray_job.meta.owner == job.uid and ray_job.meta.deleted is None and not ray_job.finished
        needed = number > last or (current is not None and number == current.number)
        submitters = [pod for pod in attempt_pods(number, seen) if pod.component == "submitter"]
        if mine and (stopped or not needed) and not diagnosis.knows_its_end(submitters):
            decision.delete("RayJob", ray_job.meta.name, ray_job.meta.uid)
    running = evaluation.own_job(job, seen)
    in_vain = decision.is_true("Failed") or (job.spec.suspend and not decision.over)
    if running is not None and in_vain and not running.finished and running.meta.deleted is None:
        decision.delete("Job", running.meta.name, running.meta.uid)


def _wind_down(seen: Observed, status: JobStatus, decision: Decision) -> None:
    """After the end: what still runs is freed, and the job goes when its time is over."""
    if any(not ray_job.finished for ray_job in seen.ray_jobs.values()) or seen.evaluation_jobs:
        _clean_up(Job.parse(seen.body), seen, decision)
    ttl = seen.body["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or status.completion_time is None:
        return
    left = ttl - (seen.now - datetime.fromisoformat(status.completion_time)).total_seconds()
    decision.delete_itself = left <= 0
    if left > 0:
        decision.again_in(left)
