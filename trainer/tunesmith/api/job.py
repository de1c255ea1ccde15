"""FineTuneJob: the resource."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from tunesmith.api.base import API_VERSION, Rule, Schema
from tunesmith.api.cluster import RuntimeSpec, ScalingSpec, StorageSpec
from tunesmith.api.dataset import DatasetSpec
from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.method import Method
from tunesmith.api.model import ModelSpec
from tunesmith.api.objective import Objective
from tunesmith.api.search import SearchSpec
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
            cel="!has(self.model.quantization) || !has(self.method.full)",
            message="model.quantization needs an adapter (method.lora): quantized weights cannot be trained themselves",
            holds=lambda s: s.model.quantization is None or s.method.full is None,
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
            "(has(self.objective.seq2seq) && !has(self.objective.seq2seq.spanCorruption)) || "
            "self.evaluation.metrics.all(m, m == 'perplexity')",
            message="exactMatch and tokenF1 need objective.instruction or seq2seq: "
            "there are no answers to compare otherwise",
            holds=lambda s: s.evaluation is None or s.has_answers or set(s.evaluation.metrics) == {"perplexity"},
            field="evaluation.metrics",
        ),
        Rule(
            cel="!has(self.model.config) || self.model.config.architecture == (has(self.objective.maskedLM) ? 'bert' : "
            "has(self.objective.seq2seq) ? 't5' : 'llama')",
            message="should be bert for maskedLM, t5 for seq2seq, and llama for causalLM and instruction",
            holds=lambda s: s.model.config is None or s.model.config.architecture == s.architecture,
            field="model.config.architecture",
        ),
        Rule(
            cel="!has(self.objective.maskedLM) || (!has(self.method.prefix) && !has(self.method.ptuning))",
            message="maskedLM does not go with prefix and ptuning; use full, lora or adalora",
            holds=lambda s: s.objective.masked_lm is None or (s.method.prefix is None and s.method.ptuning is None),
            field="method",
        ),
        Rule(
            cel="!has(self.dataset.columns.messages) || "
            "(has(self.objective.instruction) && !has(self.objective.instruction.template))",
            message="conversations need objective.instruction without a template: they take the chat template's form",
            holds=lambda s: (
                s.dataset.columns.messages is None
                or (s.objective.instruction is not None and s.objective.instruction.template is None)
            ),
            field="dataset.columns.messages",
        ),
        Rule(
            cel="(!has(self.scaling.deepspeed) && !has(self.scaling.fsdp) && self.scaling.tensorParallel == 1) || "
            "has(self.training.optimizer.sgd) || (has(self.training.optimizer.adamw) && "
            "self.training.optimizer.adamw.bits == 32 && !self.training.optimizer.adamw.paged)",
            message="deepspeed, fsdp and tensorParallel go with adamw in 32 bits and sgd: others look at whole weights",
            holds=lambda s: not s.scaling.is_sharded or s.training.optimizer.is_elementwise,
            field="training.optimizer",
        ),
        Rule(
            cel="!has(self.scaling.deepspeed) || (!has(self.training.average) && !has(self.training.maxGradValue) && "
            "self.training.skipNonFiniteSteps == 0)",
            message="average, maxGradValue and skipNonFiniteSteps need weights or gradients that deepspeed keeps to "
            "itself; use fsdp or none of them",
            holds=lambda s: (
                s.scaling.deepspeed is None
                or (
                    s.training.average is None
                    and s.training.max_grad_value is None
                    and s.training.skip_non_finite_steps == 0
                )
            ),
            field="training",
        ),
        Rule(
            cel="self.scaling.tensorParallel == 1 || has(self.method.full)",
            message="goes with method.full; use fsdp for adapters",
            holds=lambda s: s.scaling.tensor_parallel == 1 or s.method.full is not None,
            field="scaling.tensorParallel",
        ),
        Rule(
            cel="self.training.precision != 'fp16' || (!has(self.scaling.fsdp) && self.scaling.tensorParallel == 1)",
            message="fp16 does not go with fsdp and tensorParallel; use bf16",
            holds=lambda s: (
                s.training.precision != "fp16" or (s.scaling.fsdp is None and s.scaling.tensor_parallel == 1)
            ),
            field="training.precision",
        ),
        Rule(
            cel="!has(self.scaling.deepspeed) || !has(self.method.full) || self.method.full.l2Pull == 0.0",
            message="full.l2Pull needs gradients, which deepspeed keeps to itself; use fsdp, or drop it",
            holds=lambda s: s.scaling.deepspeed is None or s.method.full is None or s.method.full.l2_pull == 0,
            field="scaling.deepspeed",
        ),
        Rule(
            cel="!has(self.method.adalora) || (!has(self.scaling.deepspeed) && !has(self.scaling.fsdp))",
            message="adalora is not sharded, since it judges ranks by whole gradients; drop deepspeed and fsdp",
            holds=lambda s: s.method.adalora is None or (s.scaling.deepspeed is None and s.scaling.fsdp is None),
            field="scaling",
        ),
        Rule(
            cel="!has(self.method.lora) || !self.method.lora.dora || !has(self.model.quantization) || "
            "self.model.quantization.type != 'int8'",
            message="dora does not go with weights in int8; use nf4, or lora without dora",
            holds=lambda s: (
                s.method.lora is None
                or not s.method.lora.dora
                or s.model.quantization is None
                or s.model.quantization.type != "int8"
            ),
            field="method.lora.dora",
        ),
        Rule(
            cel="(!has(self.method.prefix) && !has(self.method.ptuning)) || (!has(self.scaling.deepspeed) && "
            "!has(self.scaling.fsdp) && self.scaling.tensorParallel == 1)",
            message="prefix and ptuning are not sharded: drop deepspeed, fsdp and tensorParallel, or use lora",
            holds=lambda s: (
                (s.method.prefix is None and s.method.ptuning is None)
                or (s.scaling.deepspeed is None and s.scaling.fsdp is None and s.scaling.tensor_parallel == 1)
            ),
            field="scaling",
        ),
        Rule(
            cel="!has(self.method.prefix) || !self.training.gradientCheckpointing",
            message="does not go with method.prefix, whose keys and values would be added twice; use ptuning or lora",
            holds=lambda s: s.method.prefix is None or not s.training.gradient_checkpointing,
            field="training.gradientCheckpointing",
        ),
        Rule(
            cel="!has(self.training.earlyStopping) || has(self.dataset.validation)",
            message="training.earlyStopping needs dataset.validation",
            holds=lambda s: s.training.early_stopping is None or s.dataset.validation is not None,
        ),
        Rule(
            cel="!has(self.search) || has(self.dataset.validation)",
            message="search needs dataset.validation: trials are compared by the loss on it",
            holds=lambda s: s.search is None or s.dataset.validation is not None,
        ),
        Rule(
            cel="!(self.training.precision in ['fp16', 'tf32']) || (has(self.scaling.resources) && "
            "has(self.scaling.resources.nvidia__dot__com__slash__gpu))",
            message="fp16 and tf32 need a GPU (scaling.resources nvidia.com/gpu: 1); use bf16 or fp32 on a CPU",
            holds=lambda s: s.training.precision not in ("fp16", "tf32") or s.scaling.resources.gpu is not None,
            field="training.precision",
        ),
        Rule(
            cel="!has(self.training.optimizer.adamw) || !self.training.optimizer.adamw.paged || "
            "(has(self.scaling.resources) && has(self.scaling.resources.nvidia__dot__com__slash__gpu))",
            message="a paged optimizer needs a GPU (scaling.resources nvidia.com/gpu: 1)",
            holds=lambda s: (
                s.training.optimizer.adamw is None
                or not s.training.optimizer.adamw.paged
                or s.scaling.resources.gpu is not None
            ),
            field="training.optimizer.adamw.paged",
        ),
        Rule(
            cel="!has(self.model.quantization) || (!has(self.scaling.deepspeed) && !has(self.scaling.fsdp) && "
            "self.scaling.tensorParallel == 1)",
            message="quantized weights are not sharded; drop deepspeed, fsdp and tensorParallel, or model.quantization",
            holds=lambda s: (
                s.model.quantization is None
                or (s.scaling.deepspeed is None and s.scaling.fsdp is None and s.scaling.tensor_parallel == 1)
            ),
            field="scaling",
        ),
        Rule(
            cel="!has(self.training.quantizationAware) || (has(self.method.full) && !has(self.scaling.deepspeed) && "
            "!has(self.scaling.fsdp) && self.scaling.tensorParallel == 1)",
            message="goes with method.full, and without deepspeed, fsdp and tensorParallel; whole weights are rounded",
            holds=lambda s: (
                s.training.quantization_aware is None
                or (
                    s.method.full is not None
                    and s.scaling.deepspeed is None
                    and s.scaling.fsdp is None
                    and s.scaling.tensor_parallel == 1
                )
            ),
            field="training.quantizationAware",
        ),
    )

    @property
    def architecture(self) -> str:
        """The model family that the objective needs, for a new model."""
        return {"encoder": "bert", "encoder-decoder": "t5", "decoder": "llama"}[self.objective.kind]

    @property
    def packed(self) -> bool:
        """Whether rows are laid end to end: encoder-decoders, prefixes and P-tuning are computed side by side."""
        virtual_tokens = self.method.prefix is not None or self.method.ptuning is not None
        return self.training.packing and not virtual_tokens and self.objective.kind != "encoder-decoder"

    @property
    def has_answers(self) -> bool:
        """Whether the rows hold answers that a model's own can be compared with."""
        text_to_text = self.objective.seq2seq is not None and self.objective.seq2seq.span_corruption is None
        return self.objective.instruction is not None or text_to_text


IMMUTABLE_FIELDS = ("model", "dataset", "objective", "method", "training", "search")
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
