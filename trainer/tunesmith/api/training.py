"""`spec.training`: the optimisation."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.api.base import Rule, Schema
from tunesmith.api.optimizer import AdamW, Optimizer, Schedule


class Checkpoint(Schema):
    """When a run saves its whole state, and how much of it stays."""

    every_steps: Annotated[int, Field(ge=1)] = 200
    """Optimizer steps between two checkpoints; the validation loss is computed there too."""
    keep: Annotated[int, Field(ge=1, le=1000)] = 2
    """How many of the newest stay; the best one by validation loss stays besides."""


class EarlyStopping(Schema):
    """Ends a run whose validation loss no longer falls."""

    metric: Literal["validation/loss"] = "validation/loss"
    """What is watched."""
    patience: Annotated[int, Field(ge=1)] = 3
    """How many checkpoints in a row may pass without a new best."""


class Average(Schema):
    """An exponential moving average of the weights, which is what is validated and kept in the end."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Decay of the average in each step; it starts as the mean of the first steps."""


class TrainingSpec(Schema):
    """The optimisation, over shuffled epochs."""

    epochs: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Passes over the training rows; 1 unless maxSteps is given."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Ends the run after so many optimizer steps."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """Rows of the data set in one optimizer step, over all workers, packed or not."""
    micro_batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    """At most so many rows (packed: so many x maxLength tokens) at once in a worker. Changes memory and speed, never
    the result; halved by itself after an out-of-memory failure."""
    max_length: Annotated[int, Field(ge=2, le=10_000_000)] = 1024
    """The longest row in tokens."""
    packing: bool = True
    """Whether rows are laid end to end, without padding, instead of side by side. Changes speed, never the result.
    Encoder-decoders, prefixes and P-tuning are always computed side by side."""
    optimizer: Optimizer = Optimizer(adamw=AdamW())
    """What makes a step of a gradient."""
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 2e-4
    """The highest learning rate."""
    schedule: Schedule = Schedule()
    """The learning rate over time."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Decoupled weight decay, on matrices only."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each layer's learning rate is this times that of the layer above it; 1 is the same rate for all."""
    embedding_learning_rate: Annotated[float, Field(gt=0, le=100)] | None = None
    """The highest learning rate of embeddings and head, where it differs."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this global norm; one that none reaches, such as 1e9, leaves them alone."""
    max_grad_value: Annotated[float, Field(gt=0)] | None = None
    """Each element of a gradient is clipped to this, before the norm is taken."""
    skip_non_finite_steps: Annotated[int, Field(ge=0)] = 0
    """How many steps of a run may be left out, rather than end it, because a loss or gradient is not finite."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "bf16"
    """The type of the matrix products; trained weights and optimizer stay in fp32. fp16 and tf32 need a GPU."""
    quantization_aware: Literal["int8", "nf4"] | None = None
    """Trains a model to be exported in 8 or 4 bits: its linear layers compute with rounded values, while the weights
    that learn stay whole. Validation measures the rounded model."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about a third more time."""
    checkpoint: Checkpoint = Checkpoint()
    """When the state is saved."""
    average: Average | None = None
    """Keeps an average of the weights over the steps."""
    early_stopping: EarlyStopping | None = None
    """Ends a run whose validation loss no longer falls."""
    log_every_steps: Annotated[int, Field(ge=1)] = 1
    """Optimizer steps between two lines of metrics.jsonl."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seeds the initial weights, the order of rows, the split and dropout."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.epochs) || !has(self.maxSteps)",
            message="set epochs or maxSteps, not both",
            holds=lambda t: t.epochs is None or t.max_steps is None,
        ),
    )

    @property
    def half(self) -> bool:
        """Whether matrix products are computed in 16 bits."""
        return self.precision in ("bf16", "fp16")
