"""`spec.method`: which weights learn."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tunesmith.api.base import OneOf, Rule, Schema


def _check_expression(text: str) -> str:
    """Refuses what is no regular expression, in a sentence."""
    try:
        re.compile(text)
    except re.error as error:
        raise PydanticCustomError("expression", "is no regular expression: {text}", {"text": str(error)}) from None
    return text


TargetModules = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_check_expression)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class FullMethod(Schema):
    """All weights are trained."""

    l2_pull: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Against forgetting: adds l2Pull / 2 x the squared distance from the starting weights to the loss (L2-SP, Li et
    al. 2018, arXiv:1802.01483)."""


class LoraMethod(Schema):
    """Low-rank adapters are trained, the base is frozen (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rank of the update of each weight."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """The update is scaled by alpha / rank."""
    dropout: Dropout = 0.0
    """Dropout on the adapter's input."""
    target_modules: TargetModules = "all-linear"
    """all-linear (every linear layer but the head), or a regular expression that the whole name of a module matches,
    for example .*[.](q_proj|v_proj)."""
    rank_stabilized: bool = False
    """Scales by alpha / sqrt(rank) instead, for high ranks (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732)."""
    dora: bool = False
    """Learns the magnitude of each weight apart from its direction (DoRA, Liu et al. 2024, arXiv:2402.09353)."""
    merge: bool = False
    """Whether model/ holds the adapter merged into its full-precision base; the adapter itself is then in adapter/."""


class AdaLoraMethod(Schema):
    """Low-rank adapters that share one budget of ranks: those that matter little are given up (Zhang et al. 2023,
    arXiv:2303.10512)."""

    initial_rank: Annotated[int, Field(ge=1, le=4096)] = 12
    """Rank of each adapter at the start."""
    target_rank: Annotated[int, Field(ge=1, le=4096)] = 8
    """Mean rank of the adapters at the end."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """The update is scaled by alpha / initialRank."""
    dropout: Dropout = 0.0
    """Dropout on the adapter's input."""
    target_modules: TargetModules = "all-linear"
    """As for lora."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of all steps before the first rank is given up."""
    settled: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The share of all steps at the end during which the ranks stay."""
    every_steps: Annotated[int, Field(ge=1)] = 1
    """Optimizer steps between two decisions about ranks."""
    orthogonality: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the penalty that keeps the singular vectors orthogonal."""
    merge: bool = False
    """As for lora."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.targetRank < self.initialRank",
            message="should be below initialRank: ranks are only given up",
            holds=lambda m: m.target_rank < m.initial_rank,
            field="targetRank",
        ),
        Rule(
            cel="self.warmup + self.settled < 1.0",
            message="warmup and settled should leave steps between them, in which ranks are given up",
            holds=lambda m: m.warmup + m.settled < 1,
        ),
    )


class PrefixMethod(Schema):
    """Keys and values that every layer sees before the text are trained, the base is frozen (Li & Liang 2021,
    arXiv:2101.00190)."""

    tokens: Annotated[int, Field(ge=1, le=4096)] = 16
    """Length of the prefix."""
    projection: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Width of a multi-layer perceptron that makes the prefix while it is trained; without it the prefix itself is."""


class PTuningMethod(Schema):
    """Embeddings before the text are trained through a small encoder, the base is frozen (Liu et al. 2021,
    arXiv:2103.10385)."""

    tokens: Annotated[int, Field(ge=1, le=4096)] = 16
    """Number of embeddings."""
    encoder: Literal["mlp", "lstm"] = "mlp"
    """What makes the embeddings while they are trained."""
    hidden_size: Annotated[int, Field(ge=1, le=65536)] = 128
    """Width of that encoder."""


class Method(OneOf):
    """Which weights are trained: exactly one of the members; none where nothing is trained."""

    may_be_empty: ClassVar[bool] = True

    full: FullMethod | None = None
    """All weights."""
    lora: LoraMethod | None = None
    """Low-rank adapters."""
    adalora: AdaLoraMethod | None = None
    """Low-rank adapters that share a budget of ranks."""
    prefix: PrefixMethod | None = None
    """Keys and values before the text."""
    ptuning: PTuningMethod | None = None
    """Embeddings before the text."""
