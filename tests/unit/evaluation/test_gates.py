"""What passes a gate and what does not, to the edge."""

from typing import Any

import pytest

from tunesmith.api.evaluation import Gate
from tunesmith.evaluation.gates import gate_reports
from tunesmith.evaluation.report import MetricReport
from tunesmith.evaluation.verdict import Verdict, better_of

Triple = tuple[float, float, float]


def interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def metric(name: str, tuned: Triple, difference: Triple | None = None, verdict: Verdict = "", rows: int = 100) -> Any:
    """Beside the base, and beside a job that it equals."""
    comparisons = []
    if difference is not None:
        beside = {"value": interval(*tuned), "correctedP": 0.0123}
        comparisons = [
            {"to": "base", "difference": interval(*difference), "verdict": verdict, **beside},
            {"to": "job://old", "difference": interval(0, 0, 0), "verdict": "no difference shown", **beside},
        ]
    return {
        "name": name,
        "better": better_of(name),
        "rows": rows,
        "tuned": interval(*tuned),
        "comparisons": comparisons,
        **({"verdict": verdict, "correctedP": 0.0123} if name == "winRate" else {}),
    }


EXACT = ("exactMatch", (0.6, 0.55, 0.65))
WORSE: Triple = (-0.2, -0.3, -0.1)
UNCLEAR: Triple = (-0.02, -0.05, 0.01)


@pytest.mark.parametrize(
    ("gate", "measured", "passed", "message"),
    [
        ({"atLeast": 0.6}, EXACT, True, "exactMatch is 0.600 [0.550, 0.650], as asked at least 0.600"),
        ({"atLeast": 0.61}, EXACT, False, "exactMatch is 0.600 [0.550, 0.650], but should be at least 0.610"),
        ({"atLeast": 0.3}, ("exactMatch", (3 * 0.1 - 1e-16, 0.1, 0.5)), True, None),  # rounding is no failure
        ({"atMost": 0.6}, EXACT, True, "exactMatch is 0.600 [0.550, 0.650], as asked at most 0.600"),
        ({"atMost": 0.3}, ("exactMatch", (0.1 + 0.2, 0.1, 0.5)), True, None),
        ({"atMost": 0.59}, EXACT, False, "exactMatch is 0.600 [0.550, 0.650], but should be at most 0.590"),
        ({"atLeast": 0}, ("exactMatch", (0, 0, 0)), True, None),
        (
            {"notWorseThan": "base"},
            (*EXACT, WORSE, "worse"),
            False,
            "exactMatch differs from base by -0.200 [-0.300, -0.100], which is worse (p 0.012, corrected)",
        ),
        (
            {"notWorseThan": "base"},
            (*EXACT, UNCLEAR, "no difference shown"),
            True,
            "exactMatch differs from base by -0.020 [-0.050, +0.010]: not shown to be worse (p 0.012, corrected)",
        ),
        ({"notWorseThan": "base"}, (*EXACT, WORSE, "no difference shown"), True, None),  # the test decides
        ({"notWorseThan": "base"}, (*EXACT, WORSE, "too few rows to tell"), True, None),
        ({"notWorseThan": "base"}, (*EXACT, (0.2, 0.1, 0.3), "better"), True, None),
        ({"notWorseThan": "job://old"}, (*EXACT, WORSE, "worse"), True, None),
        (
            {"notWorseThan": "base", "margin": 0.05},
            (*EXACT, UNCLEAR, "no difference shown"),
            True,
            "exactMatch differs from base by -0.020 [-0.050, +0.010], and is at most 0.050 worse",
        ),
        (
            {"notWorseThan": "base", "margin": 0.04},
            (*EXACT, UNCLEAR, "no difference shown"),
            False,
            "exactMatch differs from base by -0.020 [-0.050, +0.010], which does not show that it is at most 0.040 "
            "worse",
        ),
        ({"notWorseThan": "base", "margin": 0.4}, (*EXACT, WORSE, "worse"), True, None),
        ({"notWorseThan": "base", "margin": 0.1}, ("perplexity", (9, 8, 10), (0.05, 0, 0.1), "worse"), True, None),
        ({"notWorseThan": "base", "margin": 0.09}, ("perplexity", (9, 8, 10), (0.05, 0, 0.1), ""), False, None),
        ({"notWorseThan": "base", "margin": 0.1}, ("perplexity", (9, 8, 10), (-5, -9, -1), "better"), True, None),
        (
            {"notWorseThan": "base", "margin": 0.5},
            (*EXACT, (0, 0, 0), "too few rows to tell", 5),
            False,
            "exactMatch differs from base by 0 [0, 0]: 5 rows are too few to show that it is at most 0.500 worse",
        ),
        (
            {"notWorseThan": "base"},
            EXACT,
            False,
            "exactMatch was not compared with base: see the warnings of the evaluation",
        ),
        (
            {"notWorseThan": "base"},
            ("answerTokens", (9, 8, 10), (1, 0.5, 2), "longer"),
            False,
            "answerTokens is not worse than that of base, nor better: neither more nor less is good; use atLeast or "
            "atMost",
        ),
        ({"atMost": 9}, ("answerTokens", (9, 8, 10), (1, 0.5, 2), "longer"), True, None),
        (
            {"notWorseThan": "base"},
            ("winRate", (0.4, 0.35, 0.45), None, "worse"),
            False,
            "winRate differs from a half by -0.100 [-0.150, -0.050], which is worse (p 0.012, corrected)",
        ),
        ({"notWorseThan": "base"}, ("winRate", (0.4, 0.3, 0.5), None, "no difference shown"), True, None),
        ({"notWorseThan": "base", "margin": 0.1}, ("winRate", (0.45, 0.4, 0.5), None, "worse"), True, None),
        ({"notWorseThan": "base", "margin": 0.09}, ("winRate", (0.45, 0.4, 0.5), None, "worse"), False, None),
        ({"notWorseThan": "job://old"}, ("winRate", (0.6, 0.5, 0.7), None, "better"), False, None),
    ],
)
def test_a_gate(gate: dict[str, Any], measured: tuple[Any, ...], passed: bool, message: str | None) -> None:
    report = MetricReport.model_validate(metric(*measured))
    (found,) = gate_reports([Gate.model_validate({"metric": report.name, **gate})], [report])
    assert (found.metric, found.passed) == (report.name, passed)
    if message is not None:
        assert found.message == message


def test_a_gate_on_what_was_not_measured_is_not_passed() -> None:
    gate = Gate.model_validate({"metric": "gsm8k/exact", "atLeast": 0.1})
    (found,) = gate_reports([gate], [MetricReport.model_validate(metric(*EXACT))])
    assert not found.passed
    assert found.message == "gsm8k/exact was not measured; there are exactMatch"
