"""FineTuneJob: the resource."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from tunesmith.api.base import API_VERSION, Rule, Schema
from tunesmith.api.cluster import RuntimeSpec, ScalingSpec, StorageSpec
from tunesmith.api.dataset import DatasetSpec
from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.model import ModelSpec
from tunesmith.api.objective import Method, Objective
from tunesmith.api.source import DnsSubdomain
from tunesmith.api.status import JobStatus
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
    """Which model is tuned on which data, how, on what, and how the result is judged."""

    model: ModelSpec
    """The model to start from."""
    dataset: DatasetSpec
    """The data."""
    objective: Objective
    """What the model learns."""
    method: Method
    """Which weights are trained."""
    training: TrainingSpec = TrainingSpec()
    """The optimisation."""
    evaluation: EvaluationSpec | None = None
    """The evaluation that follows; without it the job is complete once it has trained."""
    scaling: ScalingSpec = ScalingSpec()
    """How many workers, each with how much."""
    storage: StorageSpec | None = None
    """Where the run's folder is kept on a cluster; its default is a setting of the operator."""
    runtime: RuntimeSpec = RuntimeSpec()
    """The pods."""

    suspend: bool = False
    """Frees the job's pods; when it is unset again, training goes on from the last checkpoint."""
    backoff_limit: Annotated[int, Field(ge=0, le=50)] = 3
    """How many failed attempts are tried again; lost nodes, preemption and suspension do not count."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """Fails the job when it has run so long, queueing and suspension excluded."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None
    """Deletes the job so long after its end; the run's folder stays."""
    priority_class_name: DnsSubdomain | None = None
    """The pods' PriorityClass."""
    managed_by: Annotated[str, Field(max_length=317)] | None = None
    """Another controller's name: this operator then leaves the job alone."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.model.quantization) || has(self.method.lora)",
            message="model.quantization needs method.lora: quantized weights cannot be trained themselves",
            holds=lambda s: s.model.quantization is None or s.method.lora is not None,
        ),
        Rule(
            cel="!has(self.model.config) || has(self.method.full)",
            message="model.config needs method.full: adapters on random weights learn nothing useful",
            holds=lambda s: s.model.config is None or s.method.full is not None,
        ),
        Rule(
            cel="!has(self.model.config) || self.training.maxLength <= self.model.config.contextLength",
            message="should be at most model.config.contextLength",
            holds=lambda s: s.model.config is None or s.training.max_length <= s.model.config.context_length,
            field="training.maxLength",
        ),
        Rule(
            cel="!has(self.evaluation) || has(self.dataset.test)",
            message="evaluation needs dataset.test",
            holds=lambda s: s.evaluation is None or s.dataset.test is not None,
        ),
        Rule(
            cel="!has(self.evaluation) || has(self.objective.instruction) || "
            "self.evaluation.metrics.all(m, m == 'perplexity')",
            message="exactMatch and tokenF1 need objective.instruction: there are no answers to compare otherwise",
            holds=lambda s: (
                s.evaluation is None
                or s.objective.instruction is not None
                or set(s.evaluation.metrics) == {"perplexity"}
            ),
            field="evaluation.metrics",
        ),
        Rule(
            cel="!has(self.training.earlyStopping) || has(self.dataset.validation)",
            message="training.earlyStopping needs dataset.validation",
            holds=lambda s: s.training.early_stopping is None or s.dataset.validation is not None,
        ),
        Rule(
            cel="self.training.precision != 'fp16' || (has(self.scaling.resources) && "
            "has(self.scaling.resources.nvidia__dot__com__slash__gpu))",
            message="fp16 needs a GPU (scaling.resources nvidia.com/gpu: 1); use bf16 on a CPU",
            holds=lambda s: s.training.precision != "fp16" or s.scaling.resources.gpu is not None,
            field="training.precision",
        ),
        Rule(
            cel="!has(self.scaling.deepspeed) || !has(self.model.quantization)",
            message="deepspeed does not shard quantized weights; drop scaling.deepspeed or model.quantization",
            holds=lambda s: s.scaling.deepspeed is None or s.model.quantization is None,
            field="scaling.deepspeed",
        ),
    )


IMMUTABLE_FIELDS = ("model", "dataset", "objective", "method", "training")
"""The parts of a spec that decide what a run means; fixed once it has started."""


class FineTuneJob(Schema):
    """A fine-tuning job: from a model and data to a tuned, evaluated model."""

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
