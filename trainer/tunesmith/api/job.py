"""FineTuneJob: the resource."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from tunesmith.api.base import API_VERSION, Rule, Schema
from tunesmith.api.cluster import RuntimeSpec, ScalingSpec, StorageSpec
from tunesmith.api.dataset import DatasetSpec
from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.evaluation_rules import EVALUATION_RULES
from tunesmith.api.job_rules import JOB_RULES
from tunesmith.api.method import Method
from tunesmith.api.model import ModelSpec
from tunesmith.api.notification import Notifications
from tunesmith.api.objective import Objective
from tunesmith.api.preference_rules import PREFERENCE_RULES
from tunesmith.api.search import SearchSpec
from tunesmith.api.source import DnsSubdomain, Location
from tunesmith.api.status import JobStatus
from tunesmith.api.tracking import TrackingSpec
from tunesmith.api.training import TrainingSpec

MANAGER = "tunesmith.dev/operator"


class ObjectMeta(Schema):
    """The part of Kubernetes' ObjectMeta that Tunesmith reads; everything else is kept out of the way."""

    model_config = ConfigDict(extra="ignore")

    name: DnsSubdomain
    namespace: Annotated[str, Field(max_length=63)] | None = None
    uid: str | None = None
    generation: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class FineTuneJobSpec(Schema):
    """Which model is tuned on which data, how, on what, and how the result is judged. Without objective and method
    nothing is trained: the model is evaluated as it is."""

    model: ModelSpec
    """The model to start from, or the one to be evaluated."""
    dataset: DatasetSpec
    """The data."""
    objective: Objective = Objective()
    """What the model learns; without it nothing is trained."""
    method: Method = Method()
    """Which weights are trained; goes with objective."""
    training: TrainingSpec = TrainingSpec()
    """The optimisation."""
    search: SearchSpec | None = None
    """Trains with several values of some fields, and keeps the best."""
    evaluation: EvaluationSpec | None = None
    """The evaluation that follows; without it the job is complete once it has trained."""
    scaling: ScalingSpec = ScalingSpec()
    """How many workers, each with how much."""
    storage: StorageSpec | None = None
    """Where the run's folder is kept on a cluster; its default is a setting of the operator."""
    runtime: RuntimeSpec = RuntimeSpec()
    """The pods."""
    tracking: TrackingSpec | None = None
    """Experiment trackers that the run is shown in."""

    suspend: bool = False
    """Frees the job's pods; when it is unset again, training goes on from the last checkpoint."""
    backoff_limit: Annotated[int, Field(ge=0, le=50)] = 3
    """How many failed attempts are tried again; lost nodes, preemption and suspension do not count."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """Fails the job when it has run so long, queueing and suspension excluded."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None
    """Deletes the job so long after its end; the run's folder stays."""
    notifications: Notifications = []
    """Messages about the job's end."""
    priority_class_name: DnsSubdomain | None = None
    """The pods' PriorityClass."""
    managed_by: Annotated[str, Field(max_length=317)] | None = None
    """Another controller's name: this operator then leaves the job alone."""

    rules: ClassVar[tuple[Rule, ...]] = (*EVALUATION_RULES, *JOB_RULES, *PREFERENCE_RULES)

    @property
    def trains(self) -> bool:
        """Whether anything is trained; if not, model.source is evaluated as it is."""
        return self.objective.is_set

    @property
    def model_sources(self) -> dict[str, str]:
        """The addresses of all models that are read, by their field: where training starts from, reward models, and
        what the evaluation judges by."""
        terms = self.objective.ppo.reward if self.objective.ppo is not None else []
        found = {f"spec.objective.ppo.reward[{i}].model.source": t.model.source for i, t in enumerate(terms) if t.model}
        judging = self.evaluation.model_sources if self.evaluation is not None else {}
        found |= {f"spec.evaluation.{field}": uri for field, uri in judging.items()}
        return {place: uri for place, uri in {"spec.model.source": self.model.source, **found}.items() if uri}

    @property
    def model_jobs(self) -> dict[str, str]:
        """The names of the jobs whose models are read, by the field."""
        locations = {place: Location.parse(uri) for place, uri in self.model_sources.items()}
        return {place: location.name for place, location in locations.items() if location.scheme == "job"}

    @property
    def architecture(self) -> str:
        """The model family that the objective needs, for a new model."""
        return {"encoder": "bert", "encoder-decoder": "t5", "decoder": "llama"}[self.objective.kind]

    @property
    def packed(self) -> bool:
        """Whether rows are laid end to end: encoder-decoders, prefixes and P-tuning are computed side by side."""
        virtual_tokens = self.method.prefix is not None or self.method.ptuning is not None
        return self.training.packing and not virtual_tokens and self.objective.kind != "encoder-decoder"


IMMUTABLE_FIELDS = ("model", "dataset", "objective", "method", "training", "search")
"""The parts of a spec that decide what a run means; fixed once it has started."""


class FineTuneJob(Schema):
    """A fine-tuning job: from a model and data to a tuned, evaluated model; or the evaluation of a model alone."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]  # the same string
    kind: Literal["FineTuneJob"] = "FineTuneJob"
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: JobStatus = JobStatus()

    @classmethod
    def from_cluster(cls, body: dict[str, Any]) -> "FineTuneJob":
        """Reads an object as the API server returns it.

        Raises:
            pydantic.ValidationError: the spec breaks a rule that CEL cannot express.
        """
        return cls.model_validate(body)
