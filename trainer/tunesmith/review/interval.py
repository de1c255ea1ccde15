"""Intervals from draws of rows, of figures that are made of sums over rows."""

import numpy as np

from tunesmith.api.outcome import Interval
from tunesmith.evaluation.statistics import CONFIDENCE, Floats, RowScores, resampled_sums


def draws_of(scores: RowScores) -> Floats:
    """A figure, followed by what it would be had other rows been drawn; [1 + draws]."""
    parts = scores.parts[scores.used]
    return scores.measure(np.concatenate([parts.sum(axis=0, keepdims=True), resampled_sums(parts)]))


def interval_of(draws: Floats, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval; draws that give no number are left out.

    Args:
        draws: the figure, followed by its draws.
        confidence: of the interval.
    """
    value, tail = float(draws[0]), 50 * (1 - confidence)
    low, high = (float(p) for p in np.nanpercentile(draws, [tail, 100 - tail]))
    return Interval(value=value, low=min(low, value), high=max(high, value))
