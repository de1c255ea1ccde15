"""What the model must reach: the conditions of evaluation.gates beside the figures."""

import math
from collections.abc import Sequence

from tunesmith.api.evaluation import Gate
from tunesmith.api.outcome import Interval
from tunesmith.evaluation.figures import interval_text, number_text, p_text
from tunesmith.evaluation.report import GateReport, MetricReport
from tunesmith.evaluation.statistics import FEWEST_ROWS
from tunesmith.evaluation.verdict import Verdict

_ROUNDING = 1e-9
"""Relative; 0.1 + 0.2 is at most 0.3."""


def gate_reports(gates: Sequence[Gate], metrics: Sequence[MetricReport]) -> list[GateReport]:
    """Whether each condition is met; one that cannot be checked is not."""
    found = {metric.name: metric for metric in metrics}
    return [_gate_report(gate, found) for gate in gates]


def _gate_report(gate: Gate, found: dict[str, MetricReport]) -> GateReport:
    metric = found.get(gate.metric)
    if metric is None:
        passed, text = False, f"was not measured; there are {', '.join(found)}"
    elif gate.not_worse_than is not None:
        passed, text = _not_worse(gate, gate.not_worse_than, metric)
    else:
        passed, text = _within(gate, metric)
    return GateReport(metric=gate.metric, passed=passed, message=f"{gate.metric} {text}")


def _within(gate: Gate, metric: MetricReport) -> tuple[bool, str]:
    value, figure = metric.tuned.value, interval_text(metric.tuned)
    if gate.at_least is not None:
        asked = f"at least {number_text(gate.at_least)}"
        passed = value > gate.at_least or math.isclose(value, gate.at_least, rel_tol=_ROUNDING)
    else:
        assert gate.at_most is not None
        asked = f"at most {number_text(gate.at_most)}"
        passed = value < gate.at_most or math.isclose(value, gate.at_most, rel_tol=_ROUNDING)
    return passed, f"is {figure}, {'as asked' if passed else 'but should be'} {asked}"


def _not_worse(gate: Gate, to: str, metric: MetricReport) -> tuple[bool, str]:
    if metric.better == "neither":
        return (
            False,
            f"is not worse than that of {to}, nor better: neither more nor less is good; use atLeast or atMost",
        )
    shown = _beside(to, metric)
    if shown is None:
        return False, f"was not compared with {to}: see the warnings of the evaluation"
    difference, verdict, corrected = shown
    figure = f"differs from {'a half' if metric.name == 'winRate' else to} by {interval_text(difference, sign='+')}"
    if gate.margin is None:
        chance = "" if corrected is None else f" ({p_text(corrected)}, corrected)"
        if verdict == "worse":
            return False, f"{figure}, which is worse{chance}"
        return True, f"{figure}: not shown to be worse{chance}"
    asked = f"at most {number_text(gate.margin)} worse"
    if metric.rows < FEWEST_ROWS:
        return False, f"{figure}: {metric.rows} rows are too few to show that it is {asked}"
    worst = -difference.low if metric.better == "higher" else difference.high
    passed = worst < gate.margin or math.isclose(worst, gate.margin, rel_tol=_ROUNDING)
    return passed, f"{figure}, {'and is' if passed else 'which does not show that it is'} {asked}"


def _beside(to: str, metric: MetricReport) -> tuple[Interval, Verdict, float | None] | None:
    """The difference from another model; that of a win rate is from a half."""
    if metric.name == "winRate":
        won = metric.tuned
        from_half = Interval(value=won.value - 0.5, low=won.low - 0.5, high=won.high - 0.5)
        return (from_half, metric.verdict, metric.corrected_p) if to == "base" else None
    comparison = next((c for c in metric.comparisons if c.to == to), None)
    return (comparison.difference, comparison.verdict, comparison.corrected_p) if comparison else None
