"""What a comparison shows, in words, and no more than it shows."""

from typing import Literal

from tunesmith.api.metric import LOWER_IS_BETTER, NEITHER_IS_BETTER
from tunesmith.api.outcome import Interval
from tunesmith.evaluation.statistics import FEWEST_ROWS

Verdict = Literal["better", "worse", "longer", "shorter", "no difference shown", "too few rows to tell", ""]
Better = Literal["higher", "lower", "neither"]


def better_of(metric: str) -> Better:
    """Which values of one of our metrics are good."""
    return "lower" if metric in LOWER_IS_BETTER else "neither" if metric in NEITHER_IS_BETTER else "higher"


def verdict_of(metric: str, better: Better, rows: int, shown: Interval | None, equal: float = 0.0) -> Verdict:
    """What an interval shows of the evaluated model.

    Args:
        metric: its name.
        better: which values are good.
        rows: on which the interval stands.
        shown: of a difference from another model, or of a win rate; None without any.
        equal: the value at which two models are alike.

    Returns:
        Empty without an interval, and where neither more nor less is good.
    """
    if shown is None or (better == "neither" and metric != "answerTokens"):
        return ""
    if rows < FEWEST_ROWS:
        return "too few rows to tell"
    if shown.low <= equal <= shown.high:
        return "no difference shown"
    above = shown.value > equal
    if metric == "answerTokens":
        return "longer" if above else "shorter"
    return "better" if above == (better == "higher") else "worse"
