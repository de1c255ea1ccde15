"""What a comparison shows, in words, and no more than it shows."""

from collections.abc import Sequence
from typing import Literal

from tunesmith.api.evaluation import OwnMetric
from tunesmith.api.metric import LOWER_IS_BETTER, NEITHER_IS_BETTER
from tunesmith.api.outcome import Interval
from tunesmith.evaluation.significance import ALPHA
from tunesmith.evaluation.statistics import FEWEST_ROWS

Verdict = Literal["better", "worse", "longer", "shorter", "no difference shown", "too few rows to tell", ""]
Better = Literal["higher", "lower", "neither"]


def better_of(metric: str, own: Sequence[OwnMetric] = ()) -> Better:
    """Which values of one of our metrics, or of evaluation.own, are good."""
    ours: Better = "lower" if metric in LOWER_IS_BETTER else "neither" if metric in NEITHER_IS_BETTER else "higher"
    return next((each.better for each in own if each.name == metric), ours)


def is_tested(metric: str, better: Better) -> bool:
    """Whether a difference in a metric of ours says something of which model is better, or writes more."""
    return better != "neither" or metric == "answerTokens"


def verdict_of(metric: str, better: Better, rows: int, difference: Interval | None, p: float | None) -> Verdict:
    """What an interval and a test show of the evaluated model.

    Args:
        metric: its name.
        better: which values are good.
        rows: on which the interval stands.
        difference: from another model; None without any.
        p: of the test that both are alike, corrected for all tests of the evaluation.

    Returns:
        Empty without a test, and where neither more nor less is good.
    """
    if difference is None or p is None or not is_tested(metric, better):
        return ""
    if rows < FEWEST_ROWS:
        return "too few rows to tell"
    if p > ALPHA or difference.low <= 0 <= difference.high:
        return "no difference shown"
    above = difference.value > 0
    if metric == "answerTokens":
        return "longer" if above else "shorter"
    return "better" if above == (better == "higher") else "worse"
