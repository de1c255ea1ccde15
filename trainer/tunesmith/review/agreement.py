"""How far raters agree: Krippendorff's alpha (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability)."""

from collections.abc import Sequence
from typing import Literal

import krippendorff
import numpy as np
from numpy.typing import NDArray

from tunesmith.api.outcome import Interval
from tunesmith.evaluation.statistics import RESAMPLES, SEED
from tunesmith.review.interval import interval_of
from tunesmith.review.kinds import Kind

Level = Literal["nominal", "ordinal"]
LEVELS: dict[Kind, Level] = {"likert": "ordinal", "pairwise": "ordinal", "ranking": "ordinal", "ab": "nominal"}
"""What the numbers of each kind mean: of grades and ranks the order alone, of a choice not even that."""
ENOUGH, TENTATIVE = 0.8, 0.667
"""Agreement to rely on, and for tentative conclusions (Krippendorff 2004, Content Analysis, ch. 11)."""


def alpha(counts: NDArray[np.int64], level: Level) -> float:
    """1 for full agreement, 0 for what chance alone would give; below, raters contradict each other.

    Args:
        counts: how often each value was given to each unit; [units, values], the values in order.
        level: of measurement.

    Returns:
        NaN where it cannot be told: no unit was rated twice, or all ratings are alike.
    """
    pairable = counts[counts.sum(axis=1) > 1]
    if np.count_nonzero(pairable.sum(axis=0)) < 2:
        return float("nan")
    return float(krippendorff.alpha(value_counts=pairable, level_of_measurement=level))


def alpha_interval(counts: Sequence[NDArray[np.int64]], level: Level) -> Interval | None:
    """Alpha over items with its bootstrap interval; None where it cannot be told.

    Args:
        counts: of each item, as for `alpha`; a ranking's answers are units that belong together, [answers, ranks].
        level: of measurement.
    """
    pairable = [of for of in counts if of.sum(axis=1).max(initial=0) > 1]
    if not pairable or np.isnan(found := alpha(np.concatenate(pairable), level)):
        return None
    generator = np.random.default_rng(SEED)
    draws = [found]
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(pairable), size=len(pairable))
        draws.append(alpha(np.concatenate([pairable[index] for index in drawn]), level))
    return interval_of(np.array(draws))
