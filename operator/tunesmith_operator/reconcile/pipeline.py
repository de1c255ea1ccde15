"""What should be of a pipeline, from what is observed: which stage's job is made, changed or waited for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from tunesmith.api.job import MANAGER
from tunesmith.api.load import check
from tunesmith.api.pipeline import StageName, stage_spec
from tunesmith.api.pipeline_status import PipelineStatus, StageStatus
from tunesmith_operator.builders.child_job import child_job
from tunesmith_operator.merge import merge_patch
from tunesmith_operator.names import stage_job_name
from tunesmith_operator.pipeline import Pipeline, SeenPipeline, StageJob, later_spec, stage_jobs
from tunesmith_operator.reconcile.notifications import obstacle, with_notifications
from tunesmith_operator.reconcile.pipeline_story import Found, events, is_true, line_of, status
from tunesmith_operator.reconcile.plan import Deletion, Plan, SpecPatch
from tunesmith_operator.reconcile.validation import Obstacle
from tunesmith_operator.settings import Settings


@dataclass
class _Actions:
    """What is to be done."""

    create: list[Mapping[str, Any]] = field(default_factory=list)
    change: list[SpecPatch] = field(default_factory=list)
    delete: list[Deletion] = field(default_factory=list)
    look_again: float | None = None


def reconcile_pipeline(seen: SeenPipeline, settings: Settings) -> Plan:
    """Decides what is to be done about an RLHFPipeline; the same observation always gives the same plan."""
    meta, spec = seen.body["metadata"], seen.body["spec"]
    if meta.get("deletionTimestamp") or spec.get("managedBy", MANAGER) != MANAGER:
        return Plan()
    before = PipelineStatus.model_validate(seen.body.get("status") or {})
    return with_notifications(_decide(before, seen, settings), seen, before, settings)


def _decide(before: PipelineStatus, seen: SeenPipeline, settings: Settings) -> Plan:
    meta = seen.body["metadata"]
    if is_true(before, "Complete"):  # and stays so, whatever becomes of the spec and of the jobs
        after = before.model_copy(update={"observed_generation": meta["generation"]})
        return _after_the_end(Plan(status=after if after != before else None), after, seen)
    actions = _Actions()
    problems = check(dict(seen.body), "cluster")
    if problems:
        found = _invalid("; ".join(map(str, problems)), before, seen)
    elif before.start_time is None and not seen.jobs and (refused := obstacle(seen, settings)) is not None:
        found = _refused(refused, Pipeline.parse(seen.body))
        actions.look_again = settings.recheck_seconds
    else:
        found = _walk(Pipeline.parse(seen.body), before, seen, actions, settings)
    after = status(found, before, meta["generation"], seen.now)
    plan = Plan(
        create=tuple(actions.create),
        change=tuple(actions.change),
        events=tuple(events(before, after)),
        status=after if after != before else None,
        delete=tuple(actions.delete),
        look_again=actions.look_again,
    )
    return _after_the_end(plan, after, seen)


def _after_the_end(plan: Plan, now: PipelineStatus, seen: SeenPipeline) -> Plan:
    """The plan, with the end of the pipeline itself once its time is over."""
    ttl = seen.body["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or now.completion_time is None:
        return plan
    left = ttl - (seen.now - datetime.fromisoformat(now.completion_time)).total_seconds()
    return Plan(**{**vars(plan), "delete_itself": left <= 0, "look_again": left if left > 0 else plan.look_again})


def _walk(
    pipeline: Pipeline, before: PipelineStatus, seen: SeenPipeline, actions: _Actions, settings: Settings
) -> Found:
    """Goes through the stages in their order, up to the one that is next."""
    jobs = stage_jobs(seen.jobs)
    former = {line.name: line for line in before.stages}
    found, models = Found(suspend=pipeline.spec.suspend), dict[StageName, str]()
    for stage, source in pipeline.spec.sources.items():
        job = max((j for j in jobs if j.stage == stage), key=lambda j: j.number, default=None)
        line = former.get(stage, StageStatus(name=stage))
        if source is not None:
            found.lines.append(StageStatus(name=stage, phase="Succeeded", message=f"is {source}"))
        elif found.stage is not None:  # its turn has not come
            found.lines.append(line_of(job) if job is not None else StageStatus(name=stage))
        elif job is not None and job.is_complete:
            found.take(line_of(job), job)
            models[stage] = f"job://{job.name}"
        elif job is None and line.job is not None and line.phase == "Succeeded":  # somebody deleted its job since
            found.take(line, None)
            left = line.artifacts.model if line.artifacts is not None else None
            models[stage] = left or f"job://{line.job}"
        else:
            found.stage = stage
            seconds = _seconds_left(pipeline, job, jobs)
            wanted = stage_spec(pipeline.spec, stage, models)
            if seconds is not None:
                wanted["activeDeadlineSeconds"] = max(1, seconds)
            next_step = _Step(pipeline, stage, wanted, seconds, line, seen, settings)
            _proceed(next_step, job, found, actions)
    return found


def _seconds_left(pipeline: Pipeline, job: StageJob | None, jobs: Sequence[StageJob]) -> int | None:
    """What the other jobs have left of the pipeline's time for this one."""
    limit = pipeline.spec.active_deadline_seconds
    return None if limit is None else limit - sum(j.active_seconds for j in jobs if j != job)


@dataclass(frozen=True)
class _Step:
    """The stage that is next."""

    pipeline: Pipeline
    stage: StageName
    wanted: dict[str, Any]
    """The spec of its job."""
    seconds: int | None
    """Of the pipeline's time."""
    line: StageStatus
    """What the status says of it."""
    seen: SeenPipeline
    settings: Settings


def _proceed(step: _Step, job: StageJob | None, found: Found, actions: _Actions) -> None:
    """Begins the stage, looks after its job, or says why it is over."""
    if job is None:
        _begin(step, max(1, step.line.number), found, actions)
        return
    changed = job.part_hash != step.pipeline.part_hash(step.stage)
    if job.is_deleted:
        found.take(line_of(job), job)
    elif changed and step.line.job != job.name:  # it changed before the status said that the stage had begun
        found.take(step.line, None)
        actions.delete.append(Deletion("FineTuneJob", job.name, job.uid))
        actions.look_again = 1.0
    elif job.failure is None:
        found.take(line_of(job), job)
        _pass_on(step, job, actions)
    elif changed:
        _begin(step, job.number + 1, found, actions)
    else:
        found.take(line_of(job), job)
        again = stage_job_name(step.pipeline.name, step.stage, job.number + 1)
        text = (
            f"stage {step.stage} failed: {job.failure.message}; change spec.{step.stage} to run it again as {again}, "
            f"or delete FineTuneJob {job.name} to run it again as it is"
        )
        found.failure = (job.failure.reason, text)


def _begin(step: _Step, number: int, found: Found, actions: _Actions) -> None:
    name, refusal = stage_job_name(step.pipeline.name, step.stage, number), step.seen.refusal
    if step.seconds is not None and step.seconds <= 0:
        limit = step.pipeline.spec.active_deadline_seconds
        found.take(step.line, None)
        found.failure = ("DeadlineExceeded", f"the stages have run for spec.activeDeadlineSeconds ({limit}); raise it")
    elif step.pipeline.spec.suspend:
        found.take(step.line, None)
    elif refusal is not None:
        found.take(step.line, None)
        found.trouble = (refusal.reason, refusal.message)
        actions.look_again = step.settings.recheck_seconds
    else:
        actions.create.append(child_job(step.pipeline, step.stage, number, step.wanted))
        found.take(StageStatus(name=step.stage, job=name, number=number, phase="Pending"), None)


def _pass_on(step: _Step, job: StageJob, actions: _Actions) -> None:
    """Gives the running job what may still change: whether it is suspended, its limits, its pods."""
    try:
        theirs = later_spec(job.spec)
    except ValidationError:  # of another release
        return
    patch = merge_patch(theirs, later_spec(step.wanted))
    if patch:
        actions.change.append(SpecPatch("FineTuneJob", job.name, patch))


def _refused(refused: Obstacle, pipeline: Pipeline) -> Found:
    """Nothing is begun; the pipeline ends where that will not pass."""
    said = (refused.reason, refused.message)
    return Found(
        stage=pipeline.spec.running_stages[0],
        suspend=pipeline.spec.suspend,
        trouble=None if refused.final else said,
        failure=said if refused.final else None,
    )


def _invalid(text: str, before: PipelineStatus, seen: SeenPipeline) -> Found:
    """A spec that is not valid ends a pipeline, unless a stage runs: that goes on, and nothing new is begun."""
    found, jobs = Found(invalid=text), {job.name: job for job in stage_jobs(seen.jobs)}
    running = False
    for line in before.stages:
        job = jobs.get(line.job or "")
        found.take(line_of(job) if job is not None else line, job)
        if found.lines[-1].phase != "Succeeded":
            found.stage = found.stage or line.name
            running = running or (job is not None and job.failure is None)
    if not running and (found.stage is not None or not before.stages):
        found.failure = ("InvalidSpec", text)
    return found
