"""`status` of an RLHFPipeline: written by the operator, read by people and by `kubectl wait`."""

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.api.base import Record
from tunesmith.api.notification import NotificationStatuses
from tunesmith.api.outcome import Artifacts, EvaluationResult
from tunesmith.api.status import Condition, Phase, Progress

PipelinePhase = Literal["Pending", "Supervised", "Reward", "PPO", "Evaluating", "Succeeded", "Failed", "Suspended"]


class StageStatus(Record):
    """Where a stage stands."""

    name: Literal["sft", "reward", "ppo"]
    """The stage."""
    job: str | None = None
    """Its FineTuneJob; none where the stage starts from what is there already."""
    number: int = 0
    """How often the stage was begun."""
    phase: Phase | None = None
    """The phase of its job; Succeeded where there is none."""
    message: str | None = None
    """What its job says."""
    progress: Progress | None = None
    """Where its training stands."""
    artifacts: Artifacts | None = None
    """Where its results are."""


class PipelineStatus(Record):
    """What is known of a pipeline."""

    observed_generation: int | None = None
    """The generation of the spec that this status is about."""
    phase: PipelinePhase | None = None
    """The state in a word, derived from the conditions."""
    message: str | None = None
    """What is going on and, where something is wrong, what to do about it."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """The state, for programs."""
    percentage: int | None = None
    """Progress over all stages."""
    stages: Annotated[list[StageStatus], Field(max_length=3)] = []
    """A line for each stage."""
    artifacts: Artifacts | None = None
    """Where the policy is."""
    evaluation: EvaluationResult | None = None
    """The evaluation of the policy."""
    notifications: NotificationStatuses | None = None
    """What became of spec.notifications."""
    start_time: str | None = None
    """When the first stage was begun."""
    completion_time: str | None = None
    """When the pipeline succeeded or failed."""
