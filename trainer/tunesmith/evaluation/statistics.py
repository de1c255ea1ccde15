"""How far an average over test rows can be trusted: the percentile bootstrap (Efron & Tibshirani 1993, ch. 13)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunesmith.api.outcome import Interval

Floats = NDArray[np.float64]

RESAMPLES = 2_000
SEED = 0
CONFIDENCE = 0.95
FEWEST_ROWS = 6
"""With fewer rows no difference can be shown at 95%: that all n rows agree happens by chance once in 2^(n-1) times."""

_CHUNK = 5_000_000
"""Rows drawn at once; bounds the memory to some 200 MB."""


@dataclass(frozen=True)
class RowScores:
    """One metric of one model, made of what each row adds to some sums over the rows: so rows can be drawn again, and
    models exchanged row by row, whatever the metric makes of the sums."""

    parts: Floats
    """What each row adds: a score and 1, a likelihood and its tokens, the n-grams of BLEU; shape [rows, sums]."""
    used: NDArray[np.bool_]
    """Rows that count, the others add 0; shape [rows]."""
    measure: Callable[[Floats], Floats]
    """The metric from the sums; [..., sums] to [...]."""
    is_share: bool = False
    """Whether it is a mean of scores of rows from 0 to 1."""

    def of_rows(self) -> Floats:
        """The metric of each row alone; NaN where it does not count; [rows]."""
        values = np.full(len(self.used), np.nan)
        values[self.used] = self.measure(self.parts[self.used])
        return values


def mean_score(scores: Floats, weights: Floats | None = None) -> RowScores:
    """A metric that is the mean of scores of rows.

    Args:
        scores: what each row adds; [rows].
        weights: what each row counts, 0 for one that is left out; by default 1; [rows].
    """
    weights = np.ones(len(scores)) if weights is None else weights
    return RowScores(np.stack([scores, weights], axis=1), weights > 0, _ratio)


def mean_share(scores: Floats, weights: Floats | None = None) -> RowScores:
    """The same of scores from 0 to 1, each times its weight."""
    return replace(mean_score(scores, weights), is_share=True)


def perplexity(losses: Floats, tokens: Floats) -> RowScores:
    """exp of the mean loss of a token.

    Args:
        losses: the negative log-likelihood of each row's tokens, in nats; [rows].
        tokens: of each row, 0 for one that is left out; [rows].
    """
    return RowScores(np.stack([losses, tokens], axis=1), tokens > 0, lambda sums: np.exp(_ratio(sums)))


def _ratio(sums: Floats) -> Floats:
    ratio: Floats = sums[..., 0] / sums[..., 1]
    return ratio


def on_common_rows(one: RowScores, other: RowScores) -> tuple[RowScores, RowScores]:
    """Both on the rows that count for both."""
    used = one.used & other.used
    return _on(one, used), _on(other, used)


def _on(score: RowScores, used: NDArray[np.bool_]) -> RowScores:
    return replace(score, parts=np.where(used[:, None], score.parts, 0.0), used=used)


@dataclass(frozen=True)
class Estimate:
    """A metric of the tuned model, beside the base where there is one."""

    tuned: Interval
    base: Interval | None
    difference: Interval | None
    """Tuned - base, on the same rows in every draw."""
    error: float
    """The standard error of the difference, or without a base of the metric; 0 where no row differs from another."""


def estimate(tuned: RowScores, base: RowScores | None = None) -> Estimate:
    """A metric with its 95% intervals.

    Where no row differs from another, draws of them do not either, which is less than certainty: a share has then the
    exact interval of Clopper and Pearson (1934), any other metric one without width.

    Args:
        tuned: of the tuned model; at least one row must count.
        base: of the base model, on the same rows.
    """
    (found,) = estimates([(tuned, base)])
    return found


def estimates(pairs: Sequence[tuple[RowScores, RowScores | None]]) -> list[Estimate]:
    """Of several metrics or models at once, with the same draws for all that count the same rows."""
    if any(base is not None and not np.array_equal(tuned.used, base.used) for tuned, base in pairs):
        raise ValueError("the two models were not scored on the same rows")
    scores = [score for pair in pairs for score in pair if score is not None]
    drawn = iter(_drawn_values(scores))
    found = []
    for tuned, base in pairs:
        tuned_values = next(drawn)
        alone = _interval(tuned_values, _left_open(tuned))
        if base is None:
            found.append(Estimate(alone, None, None, _error(tuned_values)))
            continue
        base_values = next(drawn)
        difference, size = tuned_values - base_values, np.abs(tuned_values) + np.abs(base_values)
        difference[np.abs(difference) <= 1e-12 * size] = 0  # a sum is rounded by where it stands among others
        error = _error(difference, float(size[0]))
        beside, between = _interval(base_values, _left_open(base)), _interval(difference, _left_open(tuned, base))
        found.append(Estimate(alone, beside, between, error))
    return found


def _drawn_values(scores: Sequence[RowScores]) -> list[Floats]:
    """The metric of the rows, then that of each draw; [1 + RESAMPLES] for each."""
    alike: dict[bytes, list[int]] = {}
    for number, score in enumerate(scores):
        alike.setdefault(score.used.tobytes(), []).append(number)
    values: dict[int, Floats] = {}
    for numbers in alike.values():
        parts = np.concatenate([scores[number].parts[scores[number].used] for number in numbers], axis=1)
        sums = np.concatenate([parts.sum(axis=0, keepdims=True), resampled_sums(parts)])
        ends = np.cumsum([scores[number].parts.shape[1] for number in numbers])
        for number, own in zip(numbers, np.split(sums, ends[:-1], axis=1), strict=True):
            values[number] = scores[number].measure(own)
    return [values[number] for number in range(len(scores))]


def resampled_sums(parts: Floats) -> Floats:
    """Sums over as many rows as there are, drawn with replacement.

    Args:
        parts: what each row adds; [rows, sums].

    Returns:
        Shape [RESAMPLES, sums].
    """
    rows = len(parts)
    generator = np.random.default_rng(SEED)
    chunk = max(1, _CHUNK // rows)
    found = []
    for start in range(0, RESAMPLES, chunk):
        draws = min(chunk, RESAMPLES - start)
        drawn = generator.integers(rows, size=(draws, rows)) + np.arange(draws)[:, None] * rows
        counts = np.bincount(drawn.ravel(), minlength=draws * rows).reshape(draws, rows).astype(np.float64)
        found.append(counts @ parts)
    return np.concatenate(found)


def _left_open(score: RowScores, other: RowScores | None = None) -> tuple[float, float] | None:
    """What rows that are all alike leave open of a share, or of the difference of two, as low and high.

    Of n rows that all agree, another one disagrees with at most the chance 1 - 0.025^(1/n), then by no more than the
    ends of the scale.
    """
    if not score.is_share or (other is not None and not other.is_share):
        return None
    rows = score.of_rows()[score.used]
    if other is not None:
        rows = rows - other.of_rows()[other.used]
    if np.ptp(rows) > 0:
        return None
    value, lowest = float(rows[0]), 0.0 if other is None else -1.0
    chance = 1 - ((1 - CONFIDENCE) / 2) ** (1 / len(rows))
    return value - chance * (value - lowest), value + chance * (1 - value)


def _interval(values: Floats, left_open: tuple[float, float] | None) -> Interval:
    """From the estimate, followed by its draws, unless these tell nothing."""
    value, tail = float(values[0]), 50 * (1 - CONFIDENCE)
    low, high = left_open or (float(p) for p in np.percentile(values[1:], [tail, 100 - tail]))
    # where all rows are alike, draws differ from the estimate by rounding alone
    return Interval(value=value, low=min(low, value), high=max(high, value))


def _error(values: Floats, size: float | None = None) -> float:
    """The standard error, from the estimate followed by its draws; what rounding alone makes is none."""
    error = float(values[1:].std())
    return error if error > 1e-9 * (abs(float(values[0])) if size is None else size) else 0.0
