"""`spec.search`: trials of one job with different hyperparameters, of which the best is kept."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.api.base import Rule, Schema, exactly_one

Value = float | int | str | bool
"""What a parameter may be set to."""

MOST_TRIALS = 1000


class Range(Schema):
    """Two ends, both included."""

    low: float
    """The lowest value."""
    high: float
    """The highest value."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.low < self.high",
            message="should be greater than low",
            holds=lambda r: r.low < r.high,
            field="high",
        ),
    )


class LogRange(Range):
    """Two positive ends, both included; each factor in between is as likely as any other."""

    low: Annotated[float, Field(gt=0)]
    """The lowest value."""
    high: Annotated[float, Field(gt=0)]
    """The highest value."""


class Parameter(Schema):
    """A field and the values that are tried: exactly one kind of them."""

    field: Annotated[str, Field(min_length=1, max_length=128)]
    """The path of a field below spec.method or spec.training, for example training.learningRate."""
    log_uniform: LogRange | None = None
    """A range, for what is thought of in factors, such as a learning rate."""
    uniform: Range | None = None
    """A range; where the field takes whole numbers, whole numbers are drawn."""
    integers: Annotated[list[int], Field(min_length=1, max_length=64)] | None = None
    """Whole numbers."""
    numbers: Annotated[list[float], Field(min_length=1, max_length=64)] | None = None
    """Numbers."""
    strings: Annotated[list[Annotated[str, Field(max_length=256)]], Field(min_length=1, max_length=64)] | None = None
    """Words, for a field that is a choice of them."""
    booleans: Annotated[list[bool], Field(min_length=1, max_length=2)] | None = None
    """true and false, for a switch."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("logUniform", "uniform", "integers", "numbers", "strings", "booleans"),
        Rule(
            cel="self.field.startsWith('method.') || self.field.startsWith('training.')",
            message="should be a field below method or training, such as training.learningRate",
            holds=lambda p: p.field.startswith(("method.", "training.")),
            field="field",
        ),
    )

    @property
    def kind(self) -> str:
        """Which kind of values is given, as in YAML."""
        (name,) = self.members_present() - {"field"}
        return name

    @property
    def range(self) -> Range | None:
        """The ends, of a range."""
        return self.log_uniform or self.uniform

    @property
    def listed(self) -> list[Value]:
        """The values, of a list; empty for a range."""
        lists = (self.integers, self.numbers, self.strings, self.booleans)
        return next((list[Value](values) for values in lists if values is not None), [])


class Asha(Schema):
    """Stops trials whose validation loss lags behind the others' (ASHA, Li et al. 2020, arXiv:1810.05934)."""

    grace_steps: Annotated[int, Field(ge=1)]
    """No trial is stopped before so many optimizer steps; a few times training.checkpoint.everySteps."""
    reduction_factor: Annotated[int, Field(ge=2, le=16)] = 3
    """At graceSteps x this^k steps about the best of so many trials goes on."""


class SearchSpec(Schema):
    """Trains the job several times, with other values of some fields, and keeps the model with the lowest validation
    loss."""

    parameters: Annotated[list[Parameter], Field(min_length=1, max_length=16)]
    """The fields that vary; all others stay as the job has them."""
    algorithm: Literal["random", "grid", "bayesian"] = "random"
    """random spreads the trials over the ranges, from a random start; grid takes every combination of listed values;
    bayesian looks where the trials so far were good (TPE, Bergstra et al. 2011, through Optuna)."""
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    """How many; 16 by default. A grid has as many as it has combinations."""
    concurrency: Annotated[int, Field(ge=1, le=100)] = 1
    """How many trials train at once, each with scaling.workers workers."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seeds what is drawn; each trial's own seed is training.seed."""
    asha: Asha | None = None
    """Stops bad trials early; without it each runs to its end."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.algorithm != 'grid' || self.parameters.all(p, !has(p.uniform) && !has(p.logUniform))",
            message="a grid needs listed values (integers, numbers, strings, booleans), not a range",
            holds=lambda s: s.algorithm != "grid" or all(p.range is None for p in s.parameters),
            field="algorithm",
        ),
        Rule(
            cel="self.algorithm != 'grid' || !has(self.trials)",
            message="a grid has as many trials as it has combinations; leave it out",
            holds=lambda s: s.algorithm != "grid" or s.trials is None,
            field="trials",
        ),
        Rule(
            cel="self.parameters.all(p, self.parameters.exists_one(q, q.field == p.field))",
            message="a field stands twice; give all of its values in one place",
            holds=lambda s: len({p.field for p in s.parameters}) == len(s.parameters),
            field="parameters",
        ),
    )

    @property
    def count(self) -> int:
        """How many trials there are."""
        if self.algorithm == "grid":
            return math.prod(len(parameter.listed) for parameter in self.parameters)
        return self.trials or 16
