"""What is told of a pipeline: its status, from what was found of its stages, and the events, from what is new in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from tunesmith.api.outcome import EvaluationResult
from tunesmith.api.pipeline import StageName
from tunesmith.api.pipeline_status import PipelinePhase, PipelineStatus, StageStatus
from tunesmith.api.status import Condition, ConditionType
from tunesmith_operator.pipeline import StageJob
from tunesmith_operator.reconcile.decision import condition, timestamp
from tunesmith_operator.reconcile.plan import Event

_PHASES: dict[StageName, PipelinePhase] = {"sft": "Supervised", "reward": "Reward", "ppo": "PPO"}
_RUNNING = ("Training", "Evaluating")


@dataclass
class Found:
    """How the stages stand."""

    lines: list[StageStatus] = field(default_factory=list)
    stage: StageName | None = None
    """The first that has not succeeded; None when all have."""
    job: StageJob | None = None
    """The newest job of the stage that was looked at last."""
    suspend: bool = False
    trouble: tuple[str, str] | None = None
    """Reason and message of what keeps the stage from being begun."""
    invalid: str = ""
    """What is wrong with the spec."""
    failure: tuple[str, str] | None = None
    """Reason and message of the pipeline's end."""

    def take(self, line: StageStatus, job: StageJob | None) -> None:
        """Adds a stage."""
        self.lines.append(line)
        self.job = job


def is_true(status: PipelineStatus, kind: ConditionType) -> bool:
    """Whether a condition is there and holds."""
    return any((c.type, c.status) == (kind, "True") for c in status.conditions)


def line_of(job: StageJob) -> StageStatus:
    """What a stage's job says."""
    return StageStatus(
        name=job.stage,
        job=job.name,
        number=job.number,
        phase=job.status.phase or "Pending",
        message="is being deleted" if job.is_deleted else job.status.message,
        progress=job.status.progress,
        artifacts=job.status.artifacts,
    )


def status(found: Found, before: PipelineStatus, generation: int, now: datetime) -> PipelineStatus:
    """The status as it should be."""
    phase, message = _in_a_word(found)
    over = phase in ("Succeeded", "Failed")
    begun = any(line.job is not None for line in found.lines)
    last = found.lines[-1] if found.lines else None
    running = [line for line in found.lines if line.phase != "Succeeded" or line.job is not None]
    done = [100 if r.phase == "Succeeded" else r.progress.percentage if r.progress else 0 for r in running]
    return PipelineStatus(
        observed_generation=generation,
        phase=phase,
        message=message,
        conditions=_conditions(found, phase, message, before, generation, now),
        percentage=sum(done) // len(done) if begun else None,
        stages=found.lines,
        artifacts=last.artifacts if last is not None else None,
        evaluation=_evaluation(found, before),
        notifications=before.notifications,
        start_time=before.start_time or (timestamp(now) if begun else None),
        completion_time=(before.completion_time or timestamp(now)) if over else None,
    )


def _evaluation(found: Found, before: PipelineStatus) -> EvaluationResult | None:
    """Of the policy."""
    if found.job is None or found.job.stage != "ppo":
        return before.evaluation if found.stage is None else None
    return found.job.status.evaluation


def _in_a_word(found: Found) -> tuple[PipelinePhase, str]:
    """Phase and message."""
    if found.failure is not None:
        return "Failed", found.failure[1]
    if found.stage is None:
        return "Succeeded", "the policy is ready"
    job = _current(found)
    asleep = job is None or job.status.phase == "Suspended"
    if found.suspend and asleep:
        return "Suspended", "spec.suspend is set; unset it to go on"
    if not any(line.job is not None for line in found.lines):
        return "Pending", found.trouble[1] if found.trouble is not None else ""
    line = next(line for line in found.lines if line.name == found.stage)
    evaluates = found.stage == "ppo" and line.phase == "Evaluating"
    said = found.invalid or (found.trouble[1] if found.trouble is not None else line.message or line.phase)
    name = f"{line.job}: " if line.job is not None and not (found.invalid or found.trouble) else ""
    return "Evaluating" if evaluates else _PHASES[found.stage], f"{name}{said}"


def _current(found: Found) -> StageJob | None:
    """The job of the stage that has not succeeded."""
    return found.job if found.job is not None and found.job.stage == found.stage else None


def _conditions(
    found: Found, phase: PipelinePhase, message: str, before: PipelineStatus, generation: int, now: datetime
) -> list[Condition]:
    former = {each.type: each for each in before.conditions}
    made: list[Condition] = []

    def add(kind: ConditionType, holds: bool, reason: str, text: str = "") -> None:
        said: Literal["True", "False"] = "True" if holds else "False"
        made.append(condition(former.get(kind), kind, said, reason, text, generation, now))

    add("Validated", not found.invalid, "InvalidSpec" if found.invalid else "Valid", found.invalid)
    if found.failure is not None:
        add("Running", False, *found.failure)
    elif found.stage is None:
        add("Running", False, "Succeeded")
    elif found.trouble is not None:
        add("Running", False, *found.trouble)
    else:
        line = next((line for line in found.lines if line.name == found.stage), None)
        reason = line.phase if line is not None and line.phase is not None else phase
        add("Running", reason in _RUNNING, reason, message)
    if found.failure is not None:
        add("Failed", True, *found.failure)
    elif found.stage is None:
        add("Complete", True, "Succeeded", message)
    if phase == "Suspended":
        add("Suspended", True, "Suspended", message)
    elif "Suspended" in former:
        add("Suspended", False, "Resumed")
    return made


def events(before: PipelineStatus, after: PipelineStatus) -> Iterator[Event]:
    """What is new; each is told once, whoever tells it again after a restart."""
    former = {line.name: line for line in before.stages}
    for line in after.stages:
        was = former.get(line.name, StageStatus(name=line.name))
        known, key = was.job == line.job, f"{line.name}/{line.number}"
        if line.job is not None and not known:
            yield Event("StageStarted", f"stage {line.name} runs as FineTuneJob {line.job}", False, key)
        if line.job is not None and line.phase in ("Succeeded", "Failed") and not (known and was.phase == line.phase):
            text = f"stage {line.name}, FineTuneJob {line.job}: {line.message or line.phase}"
            yield Event(f"Stage{line.phase}", text, line.phase == "Failed", key)
    told = {each.type: each for each in before.conditions}
    for each in after.conditions:
        old = told.get(each.type)
        if old is not None and (old.status, old.reason) == (each.status, each.reason):
            continue
        key = f"{each.type}/{after.observed_generation}/{each.reason}"
        if each.type == "Failed":
            yield Event("Failed", f"{each.reason}: {each.message}", True, key)
        elif each.type in ("Complete", "Suspended") and each.status == "True":
            yield Event(each.type, each.message, False, key)
        elif each.type == "Running" and each.reason in _REFUSALS:
            yield Event(each.reason, each.message, True, key)


_REFUSALS = ("ChildConflict", "WaitingForDeletion", "QuotaExceeded", "ChildRefused", "UnknownWebhook")
"""Why the API server, somebody's object of the same name, or a setting keeps a job from being made."""
