"""The evaluation: after a successful training, or alone; in a Job, or with several workers in a RayJob."""

from tunesmith.api.outcome import Artifacts, Outcome, Overrides
from tunesmith_operator.builders.config import config_map
from tunesmith_operator.builders.evaluation import evaluation_job
from tunesmith_operator.builders.rayjob import ray_job
from tunesmith_operator.job import Job, Run
from tunesmith_operator.names import CONTENT_HASH
from tunesmith_operator.observed import EvaluationJob, Observed, Pod
from tunesmith_operator.reconcile import attempts, diagnosis, evaluation_ray, validation
from tunesmith_operator.reconcile.decision import Decision, timestamp
from tunesmith_operator.reconcile.ending import attempt_pods, follow_up
from tunesmith_operator.reconcile.validation import Obstacle
from tunesmith_operator.settings import Settings

MEMORY_REMEDY = "lower evaluation.batchSize, or raise scaling.resources"


def proceed(job: Job, seen: Observed, decision: Decision, settings: Settings, active: float) -> None:
    """Starts the evaluation, watches it, takes its result.

    Args:
        active: seconds that the training has run.
    """
    left = diagnosis.outcome(_telling_pods(job, seen, decision))
    if left is not None and left.evaluation is not None:
        _take(left, job, decision)
        return
    deadline, active = job.spec.active_deadline_seconds, active + _active_seconds(job, seen, decision)
    if deadline is not None and active >= deadline:
        kept = "; the trained model is kept" if job.spec.trains else ""
        _fail(job, decision, "DeadlineExceeded", f"the job has run for spec.activeDeadlineSeconds ({deadline}){kept}")
    elif _is_sharded(job):
        _proceed_on_ray(job, seen, decision, settings)
    else:
        _proceed_in_a_pod(job, seen, decision, settings, left)
    if deadline is not None and not decision.over:
        decision.again_in(max(1.0, deadline - active))


def own_job(job: Job, seen: Observed) -> EvaluationJob | None:
    """The evaluation's Job, if it is there and this job's."""
    running = seen.evaluation_jobs.get(job.evaluation_name())
    return running if running is not None and running.meta.owner == job.uid else None


def complete(job: Job, decision: Decision) -> None:
    """Ends the job well."""
    text = "the model is ready" if job.spec.trains else "the model is evaluated"
    decision.set("Complete", "True", "Succeeded", text, tell="Normal")


def _is_sharded(job: Job) -> bool:
    return job.spec.evaluation is not None and job.spec.evaluation.workers > 1


def _telling_pods(job: Job, seen: Observed, decision: Decision) -> list[Pod]:
    """The pods that leave the outcome."""
    if not _is_sharded(job):
        return [pod for pod in seen.pods.values() if pod.component == "evaluation"]
    return [pod for pod in attempt_pods(decision.evaluation_number, seen) if pod.component == "submitter"]


def _active_seconds(job: Job, seen: Observed, decision: Decision) -> float:
    if _is_sharded(job):
        return evaluation_ray.active_seconds(job, seen, decision)
    running = own_job(job, seen)
    return (seen.now - running.meta.created).total_seconds() if running is not None else 0.0


def _take(left: Outcome, job: Job, decision: Decision) -> None:
    """Copies the figures, and ends the job with what they mean for it."""
    known = decision.artifacts.to_dict() if decision.artifacts else {}
    decision.artifacts = Artifacts.model_validate(known | left.artifacts.to_dict())
    decision.evaluation = left.evaluation
    assert left.evaluation is not None
    if left.reason == "Succeeded":
        decision.set("Evaluated", "True", "Succeeded", f"on {left.evaluation.rows} rows", tell="Normal")
        complete(job, decision)
        return
    decision.set("Evaluated", "False", left.reason, left.message, tell="Warning")
    about = "the model does not meet evaluation.gates: " if left.reason == "GateFailed" else ""
    decision.fail(left.reason, f"{about}{left.message}")


def _proceed_in_a_pod(job: Job, seen: Observed, decision: Decision, settings: Settings, left: Outcome | None) -> None:
    running, pods = own_job(job, seen), _telling_pods(job, seen, decision)
    if left is not None and follow_up(left.reason, Overrides(), 1) is None:
        _fail(job, decision, left.reason, left.message)
    elif running is not None and running.finished:
        _fail(job, decision, *_untold(job, running, pods, left.message if left else ""))
    elif running is None:
        _start(job, seen, decision, settings)
    else:
        _keep_config(job, seen, decision, settings)
        _watch(job, pods, decision, settings)


def _proceed_on_ray(job: Job, seen: Observed, decision: Decision, settings: Settings) -> None:
    running = evaluation_ray.own(job, seen, decision)
    if running is None or running.meta.deleted is not None:
        if left := attempts.left_behind(job, decision.evaluation_number - 1, seen):
            decision.set("Evaluated", "False", "Releasing", f"waits until {left} is gone")
            decision.again_in(settings.recheck_seconds)
        else:
            _start(job, seen, decision, settings)
        return
    end = evaluation_ray.conclude(job, running, seen, decision, settings)
    if end is not None:
        remedy = f"; {MEMORY_REMEDY}" if end.reason == "OutOfMemory" else ""
        _fail(job, decision, end.reason, f"{end.message}{remedy}")
    elif running.meta.attempt == decision.evaluation_number:  # it was not lost just now
        _keep_config(job, seen, decision, settings)
        evaluation_ray.watch(job, running, seen, decision, settings)


def _plan(job: Job, seen: Observed, decision: Decision, settings: Settings) -> Run | Obstacle:
    overrides = decision.attempts[-1].overrides if decision.attempts else Overrides()
    number, try_ = decision.evaluation_number, decision.evaluation_try
    return validation.plan_run(job, number, overrides, decision.attempts, seen, settings, evaluation=try_)


def _start(job: Job, seen: Observed, decision: Decision, settings: Settings) -> None:
    planned = _plan(job, seen, decision, settings)
    obstacle = planned if isinstance(planned, Obstacle) else validation.missing(planned, seen, decision)
    if obstacle is not None and not decision.started:
        validation.report(obstacle, decision, settings)
    elif obstacle is not None:
        _report(obstacle, job, decision, settings)
    if obstacle is not None or isinstance(planned, Obstacle):
        return
    if not job.spec.trains:
        decision.set("Validated", "True", "Valid")
    if seen.refusal is not None:
        refusal = seen.refusal
        decision.set("Evaluated", "False", refusal.reason, refusal.message, tell="Warning")
        decision.again_in(settings.recheck_seconds)
        return
    _create(planned, seen, decision, settings)


def _report(obstacle: Obstacle, job: Job, decision: Decision, settings: Settings) -> None:
    """What came into the way since the start."""
    if obstacle.final:
        _fail(job, decision, obstacle.reason, obstacle.message)
        return
    decision.set("Evaluated", "False", obstacle.reason, obstacle.message, tell="Warning")
    decision.again_in(settings.recheck_seconds)


def _create(run: Run, seen: Observed, decision: Decision, settings: Settings) -> None:
    config, there = config_map(run), seen.config_maps.get(run.name)
    if there is None:
        decision.create(config)
    elif there.content_hash != config["metadata"]["annotations"][CONTENT_HASH]:
        decision.delete("ConfigMap", run.name, there.meta.uid)  # spec.evaluation was changed since
        decision.again_in(1)
        return
    decision.create(ray_job(run, settings) if run.workers > 1 else evaluation_job(run, settings))
    decision.set("Evaluated", "False", "Evaluating", "evaluates the model")
    if not decision.started:
        decision.start_time = timestamp(seen.now)
        attempts.pin(run, decision)
        text = f"the evaluation runs as {'RayJob' if run.workers > 1 else 'Job'} {run.name}"
        decision.tell("EvaluationStarted", text, key="evaluation")


def _keep_config(job: Job, seen: Observed, decision: Decision, settings: Settings) -> None:
    """Asks for the ConfigMap again if somebody deleted it: another pod may be needed."""
    if job.evaluation_name(decision.evaluation_try) not in seen.config_maps:
        planned = _plan(job, seen, decision, settings)
        if isinstance(planned, Run):
            decision.create(config_map(planned))


def _watch(job: Job, pods: list[Pod], decision: Decision, settings: Settings) -> None:
    stuck = diagnosis.trouble(pods)
    if stuck is None:
        decision.set("Evaluated", "False", "Evaluating", "evaluates the model")
        return
    decision.set("Evaluated", "False", stuck.reason, stuck.message, tell="Warning", steady=True)
    decision.again_in(settings.recheck_seconds)
    if diagnosis.hopeless(stuck, decision.now, settings.pod_grace_seconds):
        _fail(job, decision, stuck.reason, stuck.message)


def _untold(job: Job, running: EvaluationJob, pods: list[Pod], said: str) -> tuple[str, str]:
    if diagnosis.out_of_memory(pods) is not None:
        return "OutOfMemory", f"the evaluation used more memory than its limit: {MEMORY_REMEDY}"
    text = said or f"it left no result ({running.message or running.finished})"
    return "EvaluationFailed", f"{text}; see kubectl logs job/{job.evaluation_name()}"


def _fail(job: Job, decision: Decision, reason: str, message: str) -> None:
    decision.set("Evaluated", "False", reason, message)
    before = "training succeeded, the evaluation did not: " if job.spec.trains else ""
    decision.fail(reason, f"{before}{message}")
