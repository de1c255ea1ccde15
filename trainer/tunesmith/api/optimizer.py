"""`spec.training.optimizer` and `schedule`: how a gradient becomes a step, and how large it is."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.api.base import OneOf, Rule, Schema

Decay = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Schema):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    beta1: Decay = 0.9
    """Decay of the first moment."""
    beta2: Decay = 0.999
    """Decay of the second moment."""
    epsilon: Annotated[float, Field(gt=0, le=1)] | None = None
    """Added to the root of the second moment; 1e-8 where it is not set."""
    bits: Literal[8, 32] = 32
    """Bits of a moment: 8 quantizes them block by block (Dettmers et al. 2021, arXiv:2110.02861)."""
    paged: bool = False
    """Lets the moments leave the GPU's memory when it is short (bitsandbytes; needs a GPU)."""


class Adafactor(Schema):
    """Adafactor (Shazeer & Stern 2018, arXiv:1804.04235): second moments as row and column means, no first one."""

    decay_exponent: Annotated[float, Field(ge=-1, lt=0)] = -0.8
    """The second moment's decay in step t is 1 - t^decayExponent."""
    clip_threshold: Annotated[float, Field(gt=0)] = 1.0
    """The root mean square of an update is scaled down to this."""


class Sgd(Schema):
    """Stochastic gradient descent with momentum."""

    momentum: Decay = 0.9
    """Decay of the running gradient."""
    nesterov: bool = False
    """Whether the momentum is applied before the gradient is taken."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!self.nesterov || self.momentum > 0.0",
            message="needs a momentum above 0; raise momentum, or drop nesterov",
            holds=lambda s: not s.nesterov or s.momentum > 0,
            field="nesterov",
        ),
    )


class Muon(Schema):
    """Muon (Jordan et al. 2024): momentum made orthogonal, for matrices within the layers; everything else, embeddings
    and head included, is left to AdamW. Scaled so that AdamW's rates fit (Liu et al. 2025, arXiv:2502.16982)."""

    momentum: Decay = 0.95
    """Decay of the running gradient."""
    beta1: Decay = 0.9
    """AdamW's, for the other weights."""
    beta2: Decay = 0.999
    """AdamW's, for the other weights."""


class Optimizer(OneOf):
    """The optimizer: exactly one of the members."""

    adamw: AdamW | None = None
    """AdamW, in 32 or 8 bits."""
    adafactor: Adafactor | None = None
    """Little memory."""
    sgd: Sgd | None = None
    """Stochastic gradient descent."""
    muon: Muon | None = None
    """Orthogonal updates of matrices."""

    @property
    def is_elementwise(self) -> bool:
        """Whether an update of a weight looks at that weight's own gradients alone, in fp32: any shard can do it."""
        return self.sgd is not None or (self.adamw is not None and self.adamw.bits == 32 and not self.adamw.paged)


class Schedule(Schema):
    """The learning rate over the steps of a run."""

    type: Literal[
        "constant",
        "linear",
        "cosine",
        "cosineWithRestarts",
        "polynomial",
        "inverseSquareRoot",
        "warmupStableDecay",
    ] = "cosine"
    """After the warmup: constant; down to `floor` along a line, half a cosine, `cycles` half cosines, or a power;
    falling as 1 / sqrt(step); or constant and then down along a line during the share `decay` at the end."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """The share of all steps during which the rate rises linearly from zero."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The factor that the rate falls to."""
    cycles: Annotated[int, Field(ge=1, le=1000)] = 1
    """For cosineWithRestarts."""
    power: Annotated[float, Field(gt=0, le=10)] = 2.0
    """For polynomial."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2
    """For warmupStableDecay."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.type != 'warmupStableDecay' || self.warmup + self.decay <= 1.0",
            message="warmup and decay together should be at most 1",
            holds=lambda s: s.type != "warmupStableDecay" or s.warmup + s.decay <= 1,
        ),
    )
