"""Intervals of figures that other libraries compute, from draws of rows."""

import numpy as np

from tunesmith.api.outcome import Interval
from tunesmith.evaluation.statistics import CONFIDENCE, Floats


def interval_of(draws: Floats) -> Interval:
    """The percentile interval; draws that give no number are left out.

    Args:
        draws: the figure, followed by its draws.
    """
    value, tail = float(draws[0]), 50 * (1 - CONFIDENCE)
    low, high = (float(p) for p in np.nanpercentile(draws[1:], [tail, 100 - tail]))
    return Interval(value=value, low=min(low, value), high=max(high, value))
