"""`spec.training`: the optimisation."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.api.base import Rule, Schema


class Schedule(Schema):
    """The learning rate over the steps of a run."""

    type: Literal["constant", "linear", "cosine"] = "cosine"
    """After the warmup: constant, or down to zero along a line or half a cosine."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """The share of all steps during which the rate rises linearly from zero."""


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


class TrainingSpec(Schema):
    """The optimisation: AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) over shuffled epochs."""

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
    """Whether rows are laid end to end, without padding, instead of side by side. Changes speed, never the result."""
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 2e-4
    """The highest learning rate."""
    schedule: Schedule = Schedule()
    """The learning rate over time."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Decoupled weight decay, on matrices only."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of AdamW's first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of AdamW's second moment."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this global norm; one that none reaches, such as 1e9, leaves them alone."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """The type of the matrix products; weights and optimizer stay in fp32. fp16 needs a GPU."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about a third more time."""
    checkpoint: Checkpoint = Checkpoint()
    """When the state is saved."""
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
