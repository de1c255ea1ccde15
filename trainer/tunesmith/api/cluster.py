"""`spec.scaling`, `spec.storage` and `spec.runtime`: where and on how much a job runs."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.api.base import OneOf, Rule, Schema, exactly_one
from tunesmith.api.quantity import Quantity
from tunesmith.api.source import DnsSubdomain


class Resources(Schema):
    """The resources of one worker; cpu is a request, memory and GPUs are request and limit."""

    cpu: Quantity | None = None
    """CPUs that a worker asks for."""
    memory: Quantity | None = None
    """Memory of a worker, as request and limit."""
    gpu: Annotated[int, Field(ge=1, le=1)] | None = Field(default=None, alias="nvidia.com/gpu")
    """GPUs of a worker: one, since a worker is one process; more GPUs are more workers."""


class DeepSpeed(Schema):
    """Shards the training state over the workers (ZeRO, Rajbhandari et al. 2020, arXiv:1910.02054)."""

    zero_stage: Annotated[int, Field(ge=1, le=3)] = 2
    """What is sharded: 1 the optimizer's state, 2 gradients too, 3 weights too."""
    offload: bool = False
    """Keeps the optimizer's state, and under stage 3 the weights, in the CPU's memory (ZeRO-Offload, Ren et al. 2021,
    arXiv:2101.06840)."""


class Fsdp(Schema):
    """Shards weights, gradients and the optimizer's state over the workers with PyTorch's fully_shard (FSDP2)."""

    offload: bool = False
    """Keeps what is sharded in the CPU's memory between its uses."""


class ScalingSpec(Schema):
    """How many workers train, each with how much."""

    workers: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Processes that train together; never changes the result."""
    resources: Resources = Resources()
    """The resources of one worker."""
    deepspeed: DeepSpeed | None = None
    """Shards the training state with DeepSpeed; without it and fsdp each worker holds all of it (DDP)."""
    fsdp: Fsdp | None = None
    """Shards the training state with PyTorch."""
    tensor_parallel: Annotated[int, Field(ge=1, le=1024)] = 1
    """Cuts each layer over so many workers, by the model's own plan in transformers; divides workers, and the heads."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.deepspeed) || !has(self.fsdp)",
            message="set deepspeed or fsdp, not both",
            holds=lambda s: s.deepspeed is None or s.fsdp is None,
        ),
        Rule(
            cel="self.workers % self.tensorParallel == 0",
            message="should divide workers",
            holds=lambda s: s.workers % s.tensor_parallel == 0,
            field="tensorParallel",
        ),
        Rule(
            cel="self.tensorParallel == 1 || !has(self.deepspeed)",
            message="does not go with deepspeed; use fsdp to shard over the other workers",
            holds=lambda s: s.tensor_parallel == 1 or s.deepspeed is None,
            field="tensorParallel",
        ),
    )

    @property
    def is_sharded(self) -> bool:
        """Whether no worker holds all of the training state."""
        return self.deepspeed is not None or self.fsdp is not None or self.tensor_parallel > 1


class PersistentVolumeClaim(Schema):
    """A claim that all pods of the job mount; with several nodes it needs ReadWriteMany."""

    claim_name: DnsSubdomain
    """The name of a PersistentVolumeClaim in the job's namespace."""


class StorageSpec(OneOf):
    """Where the folders of runs are kept."""

    persistent_volume_claim: PersistentVolumeClaim | None = None
    """A PersistentVolumeClaim."""


class KeyRef(Schema):
    """A key of a Secret or ConfigMap in the job's namespace."""

    name: DnsSubdomain
    """The object's name."""
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    """The key in it."""


class ValueFrom(OneOf):
    """Where a variable's value comes from."""

    secret_key_ref: KeyRef | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap."""


class EnvVar(Schema):
    """An environment variable of the pods."""

    name: Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The variable's name."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """Its value; $(NAME) is not expanded."""
    value_from: ValueFrom | None = None
    """Where its value comes from; secrets enter only this way."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("value", "valueFrom"),)


class LocalObjectReference(Schema):
    """An object in the job's namespace."""

    name: DnsSubdomain
    """Its name."""


class Toleration(Schema):
    """A taint that the pods tolerate, as in a PodSpec."""

    key: Annotated[str, Field(max_length=317)] | None = None
    """The taint's key; empty with operator Exists for all."""
    operator: Literal["Exists", "Equal"] | None = None
    """Equal by default."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; empty for all."""
    toleration_seconds: int | None = None
    """How long NoExecute is tolerated."""


class RuntimeSpec(Schema):
    """The pods: alike for head, workers, submitter and evaluation. What is not set comes from the chart's values."""

    image: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\s]+$")] | None = None
    """The trainer image."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When the image is pulled."""
    image_pull_secrets: Annotated[list[LocalObjectReference], Field(max_length=16)] = []
    """Secrets to pull the image with."""
    service_account_name: DnsSubdomain | None = None
    """The pods' ServiceAccount; no token of it is mounted."""
    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = {}
    """Labels that a node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = []
    """Taints that are tolerated."""
    env: Annotated[list[EnvVar], Field(max_length=64)] = []
    """Environment variables."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm."""
