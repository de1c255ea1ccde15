"""RLHFPipeline: the resource. Supervised tuning, a reward model, PPO: three FineTuneJobs with one owner."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic.alias_generators import to_camel

from tunesmith.api.base import API_VERSION, Rule, Schema, exactly_one
from tunesmith.api.cluster import RuntimeSpec, ScalingSpec, StorageSpec
from tunesmith.api.dataset import DatasetSpec
from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.job import FineTuneJob, ObjectMeta
from tunesmith.api.method import Method
from tunesmith.api.model import ModelSpec
from tunesmith.api.notification import Notifications
from tunesmith.api.pipeline_status import PipelineStatus
from tunesmith.api.ppo import PPOSettings
from tunesmith.api.reward import ENDS_IN_RESPONSE, RewardSettings, Template
from tunesmith.api.source import MODEL_SCHEMES, DnsSubdomain, Uri, check_uri, cluster_rule
from tunesmith.api.tracking import TrackingSpec
from tunesmith.api.training import TrainingSpec

StageName = Literal["sft", "reward", "ppo"]
STAGES: tuple[StageName, ...] = ("sft", "reward", "ppo")
"""In the order in which they run."""
STAGE_PARTS: dict[StageName, tuple[str, ...]] = {
    "sft": ("sft", "model", "template"),
    "reward": ("reward",),
    "ppo": ("ppo",),
}
"""The fields of a pipeline's spec that decide what a stage means."""

_ONLY_WITH_DATA = Rule(
    cel="!has(self.source) || (!has(self.method) && !has(self.evaluation) && !has(self.scaling))",
    message="method, evaluation and scaling go with dataset: a stage with source does not run",
    holds=lambda s: s.source is None or s.members_present().isdisjoint({"method", "evaluation", "scaling"}),
)
_METHOD = Rule(
    cel="!has(self.dataset) || has(self.method)",
    message="required with dataset",
    holds=lambda s: s.dataset is None or s.method is not None,
    field="method",
)


class SupervisedStage(Schema):
    """Supervised tuning on demonstrations, or a model that has had it."""

    source: Annotated[Uri, AfterValidator(check_uri(*MODEL_SCHEMES))] | None = None
    """A tuned model that is there already, as for model.source: the stage does not run."""
    dataset: DatasetSpec | None = None
    """Prompts with responses."""
    method: Method | None = None
    """Which weights are trained."""
    training: TrainingSpec = TrainingSpec()
    """The optimisation."""
    evaluation: EvaluationSpec | None = None
    """An evaluation of this stage's model."""
    scaling: ScalingSpec | None = None
    """Workers of this stage, where they differ from spec.scaling."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("source", "dataset"),
        cluster_rule("source", optional=True),
        _ONLY_WITH_DATA,
        _METHOD,
    )


class RewardStage(SupervisedStage):
    """A reward model from preferences, or one that is there already."""

    dataset: DatasetSpec | None = None
    """Prompts with preferences."""
    reward: RewardSettings = RewardSettings()
    """How the score is learnt."""


class PPOStage(Schema):
    """Reinforcement learning against the reward."""

    dataset: DatasetSpec
    """Prompts; with responses where the reward compares with them."""
    ppo: PPOSettings = PPOSettings()
    """How the policy learns; a reward without a source is the reward stage's model."""
    method: Method
    """Which weights are trained."""
    training: TrainingSpec = TrainingSpec()
    """The optimisation."""
    scaling: ScalingSpec | None = None
    """Workers of this stage, where they differ from spec.scaling."""


class RLHFPipelineSpec(Schema):
    """Which model is aligned with which preferences, how, and on what."""

    model: ModelSpec | None = None
    """The model to start from; goes with sft.dataset."""
    template: Template | None = None
    """The text of a prompt with an answer in all stages, ending in {response}; without it the tokenizer's chat template
    is used."""
    sft: SupervisedStage
    """The supervised model: where PPO starts, and what it is held to."""
    reward: RewardStage | None = None
    """The reward model; may be left out where ppo.ppo.reward names other rewards."""
    ppo: PPOStage
    """The policy."""
    evaluation: EvaluationSpec | None = None
    """The evaluation of the policy beside the supervised model, on ppo.dataset.test."""
    scaling: ScalingSpec = ScalingSpec()
    """How many workers, each with how much; a stage may have its own."""
    storage: StorageSpec | None = None
    """Where the runs' folders are kept on a cluster; its default is a setting of the operator."""
    runtime: RuntimeSpec = RuntimeSpec()
    """The pods."""
    tracking: TrackingSpec | None = None
    """Experiment trackers that the stages' runs are shown in."""

    suspend: bool = False
    """Frees the pods of the stage that runs; when it is unset again, the stage goes on from its last checkpoint."""
    backoff_limit: Annotated[int, Field(ge=0, le=50)] = 3
    """How many failed attempts of each stage are tried again."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """Fails the pipeline when its stages together have run so long, queueing and suspension excluded."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None
    """Deletes the pipeline with its jobs so long after its end; the runs' folders stay."""
    notifications: Notifications = []
    """Messages about the pipeline's end; its stages send none."""
    priority_class_name: DnsSubdomain | None = None
    """The pods' PriorityClass."""
    managed_by: Annotated[str, Field(max_length=317)] | None = None
    """Another controller's name: this operator then leaves the pipeline alone."""

    rules: ClassVar[tuple[Rule, ...]] = (
        ENDS_IN_RESPONSE,
        Rule(
            cel="has(self.model) == has(self.sft.dataset)",
            message="set model where sft has a dataset, and only there",
            holds=lambda s: (s.model is not None) == (s.sft.dataset is not None),
            field="model",
        ),
        Rule(
            cel="has(self.reward) || self.ppo.ppo.reward.all(r, !has(r.model) || has(r.model.source))",
            message="is missing: ppo.ppo.reward asks for the reward stage's model; add the stage, or another reward",
            holds=lambda s: s.reward is not None or not s.uses_reward_stage,
            field="reward",
        ),
        Rule(
            cel="!has(self.reward) || self.ppo.ppo.reward.exists(r, has(r.model) && !has(r.model.source))",
            message="is not used: no term of ppo.ppo.reward is a model without a source; drop the stage, or add one",
            holds=lambda s: s.reward is None or s.uses_reward_stage,
            field="reward",
        ),
    )

    @property
    def uses_reward_stage(self) -> bool:
        """Whether a term of the reward is the reward stage's model."""
        return any(term.model is not None and term.model.source is None for term in self.ppo.ppo.reward)

    @property
    def sources(self) -> dict[StageName, str | None]:
        """The stages in their order, each with what it is replaced by; None where it runs."""
        found: dict[StageName, str | None] = {"sft": self.sft.source}
        if self.reward is not None:
            found["reward"] = self.reward.source
        return found | {"ppo": None}

    @property
    def running_stages(self) -> tuple[StageName, ...]:
        """The stages that run, in their order."""
        return tuple(stage for stage, source in self.sources.items() if source is None)


class RLHFPipeline(Schema):
    """Reinforcement learning from human feedback in three stages: supervised tuning, a reward model, PPO."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]  # the same string
    kind: Literal["RLHFPipeline"] = "RLHFPipeline"
    metadata: ObjectMeta
    spec: RLHFPipelineSpec
    status: PipelineStatus = PipelineStatus()


def stage_spec(spec: RLHFPipelineSpec, stage: StageName, models: Mapping[StageName, str]) -> dict[str, Any]:
    """The spec of a stage's FineTuneJob, as data.

    Args:
        spec: the pipeline's.
        stage: one that runs.
        models: the addresses of the models of the stages before it that run.
    """
    whole = spec.to_dict()
    part = whole[stage]
    template = {"template": spec.template} if spec.template is not None else {}
    supervised = {"source": spec.sft.source or models["sft"]} if stage != "sft" else whole["model"]
    found: dict[str, Any] = {"model": supervised, "dataset": part["dataset"], "method": part["method"]}
    if stage == "sft":
        found["objective"] = {"instruction": template}
    elif stage == "reward":
        found["objective"] = {"reward": template | part["reward"]}
    else:
        found["objective"] = {"ppo": template | part["ppo"] | {"reward": _rewards(spec, models)}}
    found |= {
        "training": part["training"],
        "evaluation": whole.get("evaluation") if stage == "ppo" else part.get("evaluation"),
        "scaling": part.get("scaling", whole["scaling"]),
    }
    shared = ("storage", "runtime", "tracking", "suspend", "backoff_limit", "priority_class_name")
    found |= {to_camel(name): whole.get(to_camel(name)) for name in shared if name in spec.model_fields_set}
    return {name: value for name, value in found.items() if value is not None}


def _rewards(spec: RLHFPipelineSpec, models: Mapping[StageName, str]) -> list[dict[str, Any]]:
    terms = [term.to_dict() for term in spec.ppo.ppo.reward]
    for term in terms:
        if "model" in term and "source" not in term["model"]:
            assert spec.reward is not None
            term["model"] = {"source": spec.reward.source or models["reward"]}
    return terms


def stage_jobs(pipeline: RLHFPipeline) -> list[FineTuneJob]:
    """The FineTuneJobs NAME-sft, NAME-reward and NAME-ppo of a pipeline that runs on one machine, in their order."""
    names = {stage: f"{pipeline.metadata.name}-{stage}" for stage in STAGES}
    models = {stage: f"job://{name}" for stage, name in names.items()}
    return [
        FineTuneJob.model_validate(
            {"metadata": {"name": names[stage]}, "spec": stage_spec(pipeline.spec, stage, models)}
        )
        for stage in pipeline.spec.running_stages
    ]


def pipeline_place(spec: RLHFPipelineSpec, stage: StageName, place: str) -> str:
    """Where in a pipeline the field stands that a problem of a stage's FineTuneJob is about.

    Args:
        spec: the pipeline's.
        stage: the stage.
        place: the field's path in the FineTuneJob, such as `spec.training.batchSize`.
    """
    parts = {"sft": spec.sft, "reward": spec.reward, "ppo": spec.ppo}
    part = parts[stage]
    places = {
        "spec.model": "spec.model" if stage == "sft" else "spec.sft.source",
        "spec.objective.instruction": "spec",
        f"spec.objective.{stage}.template": "spec.template",
        f"spec.objective.{stage}": f"spec.{stage}.{stage}",
        "spec.evaluation": "spec.evaluation" if stage == "ppo" else f"spec.{stage}.evaluation",
        "spec.scaling": f"spec.{stage}.scaling" if part is not None and part.scaling is not None else "spec.scaling",
    }
    for theirs, ours in places.items():
        if place == theirs or place.startswith((f"{theirs}.", f"{theirs}[")):
            return ours + place.removeprefix(theirs)
    return f"spec.{stage}{place.removeprefix('spec')}"
