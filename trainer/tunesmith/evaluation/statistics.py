"""How far an average over test rows can be trusted: the percentile bootstrap (Efron & Tibshirani 1993, ch. 13)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.api.outcome import Interval

Floats = NDArray[np.float64]

RESAMPLES = 2_000
SEED = 0
CONFIDENCE = 0.95
FEWEST_ROWS = 6
"""With fewer rows no difference can be shown at 95%: that all n rows agree happens by chance once in 2^(n-1) times."""

_CHUNK = 10_000_000
"""Rows drawn at once; bounds the memory to some 250 MB."""


@dataclass(frozen=True)
class RowScores:
    """One metric of one model, as a ratio of two sums over rows: rows are drawn again, not tokens."""

    sums: Floats
    """What each row adds: its score, or the negative log-likelihood of its tokens in nats; shape [rows]."""
    weights: Floats
    """What each row counts: 1, or its number of tokens; shape [rows]."""
    exponential: bool = False
    """Whether the metric is exp of the ratio (perplexity)."""


@dataclass(frozen=True)
class Estimate:
    """A metric of the tuned model, beside the base where there is one."""

    tuned: Interval
    base: Interval | None = None
    difference: Interval | None = None
    """Tuned - base, on the same rows in every draw."""


def estimate(tuned: RowScores, base: RowScores | None = None) -> Estimate:
    """A metric with its 95% intervals.

    An interval has no width where no row differs from another: the rows then show no spread, which is less than
    certainty.

    Args:
        tuned: of the tuned model; rows without weight are left out, at least one must have some.
        base: of the base model, on the same rows with the same weights.
    """
    used = tuned.weights > 0
    columns = [tuned.weights[used], tuned.sums[used]]
    if base is not None:
        if not np.array_equal(tuned.weights, base.weights):
            raise ValueError("the two models were not scored on the same tokens")
        columns.append(base.sums[used])
    once = np.array([[column.sum()] for column in columns])
    sums = np.concatenate([once, resampled_sums(columns)], axis=1)
    ratios = sums[1:] / sums[0]
    values = np.exp(ratios) if tuned.exponential else ratios
    if base is None:
        return Estimate(_interval(values[0]))
    return Estimate(_interval(values[0]), _interval(values[1]), _interval(values[0] - values[1]))


def resampled_sums(columns: list[Floats]) -> Floats:
    """Sums over as many rows as there are, drawn with replacement, the same rows for every column.

    Args:
        columns: each of shape [rows].

    Returns:
        Shape [columns, RESAMPLES].
    """
    rows = len(columns[0])
    generator = np.random.default_rng(SEED)
    chunk = max(1, _CHUNK // rows)
    parts = []
    for start in range(0, RESAMPLES, chunk):
        draws = min(chunk, RESAMPLES - start)
        drawn = generator.integers(rows, size=(draws, rows)) + np.arange(draws)[:, None] * rows
        counts = np.bincount(drawn.ravel(), minlength=draws * rows).reshape(draws, rows).astype(np.float64)
        parts.append(np.stack([counts @ column for column in columns]))
    return np.concatenate(parts, axis=1)


def _interval(values: Floats) -> Interval:
    """From the estimate, followed by its draws."""
    value, tail = float(values[0]), 50 * (1 - CONFIDENCE)
    low, high = (float(p) for p in np.percentile(values[1:], [tail, 100 - tail]))
    # where all rows are alike, draws differ from the estimate by rounding alone
    return Interval(value=value, low=min(low, value), high=max(high, value))
