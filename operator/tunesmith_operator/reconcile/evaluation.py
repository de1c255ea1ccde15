"""The evaluation that follows a successful training, in a Job of its own."""

from tunesmith.api.outcome import Artifacts, Overrides
from tunesmith_operator.builders.config import config_map
from tunesmith_operator.builders.evaluation import evaluation_job
from tunesmith_operator.job import Job
from tunesmith_operator.observed import EvaluationJob, Observed, Pod
from tunesmith_operator.reconcile import diagnosis, validation
from tunesmith_operator.reconcile.decision import Decision
from tunesmith_operator.reconcile.ending import follow_up
from tunesmith_operator.reconcile.validation import Obstacle
from tunesmith_operator.settings import Settings


def proceed(job: Job, seen: Observed, decision: Decision, settings: Settings, active: float) -> None:
    """Starts the evaluation, watches it, takes its result."""
    pods = [pod for pod in seen.pods.values() if pod.component == "evaluation"]
    running = own_job(job, seen)
    left = diagnosis.outcome(pods)
    if left is not None and left.evaluation is not None:
        known = decision.artifacts.to_dict() if decision.artifacts else {}
        decision.artifacts = Artifacts.model_validate(known | left.artifacts.to_dict())
        decision.evaluation = left.evaluation
        decision.set("Evaluated", "True", "Succeeded", f"on {left.evaluation.rows} rows", tell="Normal")
        complete(decision)
        return
    deadline = job.spec.active_deadline_seconds
    if running is not None:
        active += (seen.now - running.meta.created).total_seconds()
    if deadline is not None and active >= deadline:
        text = f"the job has run for spec.activeDeadlineSeconds ({deadline}); the trained model is kept"
        _fail(decision, "DeadlineExceeded", text)
    elif left is not None and follow_up(left.reason, Overrides(), 1) is None:
        _fail(decision, left.reason, left.message)
    elif running is not None and running.finished:
        _fail(decision, *_untold(job, running, pods, left.message if left else ""))
    elif running is None:
        _start(job, seen, decision, settings)
    else:
        _watch(pods, decision, settings)
    if deadline is not None and not decision.over:
        decision.again_in(max(1.0, deadline - active))


def own_job(job: Job, seen: Observed) -> EvaluationJob | None:
    """The evaluation's Job, if it is there and this job's."""
    running = seen.evaluation_jobs.get(job.evaluation_name)
    return running if running is not None and running.meta.owner == job.uid else None


def complete(decision: Decision) -> None:
    """Ends the job well."""
    decision.set("Complete", "True", "Succeeded", "the model is ready", tell="Normal")


def _start(job: Job, seen: Observed, decision: Decision, settings: Settings) -> None:
    if seen.refusal is not None:
        refusal = seen.refusal
        decision.set("Evaluated", "False", refusal.reason, refusal.message, tell="Warning")
        decision.again_in(settings.recheck_seconds)
        return
    last = decision.attempts[-1]
    run = validation.plan_run(job, last.number, last.overrides, seen, settings)
    if isinstance(run, Obstacle):
        decision.set("Evaluated", "False", run.reason, run.message, tell="Warning")
        decision.again_in(settings.recheck_seconds)
        return
    if last.ray_job not in seen.config_maps:
        decision.create(config_map(run))
    decision.create(evaluation_job(run, settings))
    decision.set("Evaluated", "False", "Evaluating", "evaluates the model")


def _watch(pods: list[Pod], decision: Decision, settings: Settings) -> None:
    stuck = diagnosis.trouble(pods)
    if stuck is None:
        decision.set("Evaluated", "False", "Evaluating", "evaluates the model")
        return
    decision.set("Evaluated", "False", stuck.reason, stuck.message, tell="Warning", steady=True)
    decision.again_in(settings.recheck_seconds)
    if diagnosis.hopeless(stuck, decision.now, settings.pod_grace_seconds):
        _fail(decision, stuck.reason, stuck.message)


def _untold(job: Job, running: EvaluationJob, pods: list[Pod], said: str) -> tuple[str, str]:
    if diagnosis.out_of_memory(pods) is not None:
        text = "the evaluation used more memory than its limit: lower evaluation.batchSize, or raise scaling.resources"
        return "OutOfMemory", text
    text = said or f"it left no result ({running.message or running.finished})"
    return "EvaluationFailed", f"{text}; see kubectl logs job/{job.evaluation_name}"


def _fail(decision: Decision, reason: str, message: str) -> None:
    decision.set("Evaluated", "False", reason, message)
    decision.fail(reason, f"training succeeded, the evaluation did not: {message}")
