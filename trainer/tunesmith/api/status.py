"""`status` of a FineTuneJob: written by the operator, read by people and by `kubectl wait`."""

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.api.base import Record
from tunesmith.api.notification import NotificationStatuses
from tunesmith.api.outcome import Artifacts, EvaluationResult, Overrides

Phase = Literal["Pending", "Queued", "Starting", "Training", "Evaluating", "Succeeded", "Failed", "Suspended"]
ConditionType = Literal["Validated", "Running", "Trained", "Evaluated", "Complete", "Failed", "Suspended"]


class Condition(Record):
    """As metav1.Condition."""

    type: ConditionType
    """What it is about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str
    """One word in PascalCase, for programs."""
    message: str = ""
    """A sentence that says what to do, for people."""
    last_transition_time: str
    """When status changed last, RFC 3339."""
    observed_generation: int | None = None
    """The generation of the spec that it is about."""


class Progress(Record):
    """Where training stands; read from the trainer while it runs."""

    step: int
    """Finished optimizer steps."""
    total_steps: int
    """Optimizer steps of the whole run."""
    percentage: int
    """Of the steps."""
    loss: float | None = None
    """Mean loss per token of the last step."""
    validation_loss: float | None = None
    """Mean loss per token on the validation rows, when last computed."""
    reward: float | None = None
    """Of PPO, the mean reward of the last step's answers."""
    tokens_per_second: float | None = None
    """Real tokens, padding excluded."""
    remaining_seconds: int | None = None
    """Estimated time to the end of training."""


class Attempt(Record):
    """One RayJob's worth of training."""

    number: int
    """Counted from 1."""
    ray_job: str
    """Its RayJob's name."""
    start_time: str
    """When it was created, RFC 3339."""
    end_time: str | None = None
    """When it was over."""
    reason: str | None = None
    """Why it ended."""
    message: str | None = None
    """The end in a sentence."""
    log_tail: Annotated[str, Field(max_length=2048)] | None = None
    """The last lines of the log of the worker that failed; the newest three failed attempts have them."""
    counted: bool = False
    """Whether it used up one of spec.backoffLimit."""
    active_seconds: int | None = None
    """How long it ran, queueing excluded; set at its end."""
    overrides: Overrides = Overrides()
    """What it changed in the spec."""


class JobStatus(Record):
    """What is known of a job."""

    observed_generation: int | None = None
    """The generation of the spec that this status is about."""
    phase: Phase | None = None
    """The state in a word, derived from the conditions."""
    message: str | None = None
    """What is going on and, where something is wrong, what to do about it; derived from the conditions."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """The state, for programs."""
    progress: Progress | None = None
    """Where training stands."""
    attempts: Annotated[list[Attempt], Field(max_length=100)] = []
    """Every attempt, oldest first; of more than 100 the newest."""
    artifacts: Artifacts | None = None
    """Where the results are."""
    evaluation: EvaluationResult | None = None
    """The results of the evaluation."""
    evaluation_retries: Annotated[int, Field(ge=0)] | None = None
    """How often an evaluation of several workers was begun again, because its pods or nodes were lost."""
    notifications: NotificationStatuses | None = None
    """What became of spec.notifications."""
    start_time: str | None = None
    """When the first attempt was created, or the evaluation where nothing is trained."""
    completion_time: str | None = None
    """When the job succeeded or failed."""
    spec_hash: str | None = None
    """Identity of the immutable part of the spec that the attempts run."""
