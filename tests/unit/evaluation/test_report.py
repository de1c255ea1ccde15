"""What is said of the figures, and that it is no more than they show."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tunesmith.api.load import InputError
from tunesmith.api.outcome import Interval
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.report import EvaluationReport, MetricReport, read_report, write_report
from tunesmith.evaluation.table import evaluation_table, report_table
from tunesmith.evaluation.verdict import better_of, verdict_of


def interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def metric(
    name: str, difference: tuple[float, float, float] | None, rows: int = 100, p: float = 0.0123
) -> MetricReport:
    one = interval(0.5, 0.4, 0.6)
    better = better_of(name)
    data: dict[str, Any] = {"name": name, "better": better, "rows": rows, "tuned": one}
    if difference is not None:
        between = interval(*difference)
        verdict = verdict_of(name, better, rows, Interval.model_validate(between), p)
        data["comparisons"] = [
            {"to": "base", "value": one, "difference": between, "p": p, "correctedP": p, "verdict": verdict}
        ]
    return MetricReport.model_validate(data)


@pytest.mark.parametrize(
    ("name", "difference", "rows", "p", "verdict"),
    [
        ("exactMatch", (0.2, 0.1, 0.3), 100, 0.01, "better"),
        ("exactMatch", (-0.2, -0.3, -0.1), 100, 0.01, "worse"),
        ("tokenF1", (0.2, 0.1, 0.3), 100, 0.01, "better"),
        ("perplexity", (-5, -6, -4), 100, 0.01, "better"),
        ("perplexity", (5, 4, 6), 100, 0.01, "worse"),
        ("exactMatch", (0.2, -0.01, 0.3), 100, 0.01, "no difference shown"),
        ("exactMatch", (0.2, 0, 0.3), 100, 0.01, "no difference shown"),
        ("perplexity", (-0.2, -0.3, 0), 100, 0.01, "no difference shown"),
        ("exactMatch", (0, 0, 0), 100, 0.01, "no difference shown"),
        ("exactMatch", (1, 1, 1), 6, 0.01, "better"),
        ("exactMatch", (1, 1, 1), 5, 0.01, "too few rows to tell"),
        ("perplexity", (-9, -9, -9), 1, 0.01, "too few rows to tell"),
        ("exactMatch", None, 100, 0.01, ""),
        ("reward", (0.2, 0.1, 0.3), 100, 0.01, "better"),
        ("answerTokens", (5, 4, 6), 100, 0.01, "longer"),
        ("answerTokens", (-5, -6, -4), 100, 0.01, "shorter"),
        ("answerTokens", (-5, -6, 4), 100, 0.01, "no difference shown"),
        ("exactMatch", (0.2, 0.1, 0.3), 100, 0.05, "better"),
        ("exactMatch", (0.2, 0.1, 0.3), 100, 0.051, "no difference shown"),
        ("exactMatch", (-0.2, -0.3, -0.1), 100, 1.0, "no difference shown"),
        ("exactMatch", (1, 1, 1), 5, 0.001, "too few rows to tell"),
        ("exactMatch", (0.2, 0.1, 0.3), 100, None, ""),
        ("divergence", (0.2, 0.1, 0.3), 100, 0.01, ""),
        ("divergence", None, 100, 0.01, ""),
    ],
)
def test_a_verdict_claims_what_interval_and_test_show_together(
    name: str, difference: tuple[float, float, float] | None, rows: int, p: float | None, verdict: str
) -> None:
    shown = None if difference is None else Interval.model_validate(interval(*difference))
    assert verdict_of(name, better_of(name), rows, shown, p) == verdict


def report(*metrics: MetricReport, **more: Any) -> EvaluationReport:
    model = {"address": "m", "dtype": "float32", "device": "cpu", "seconds": 1.0}
    compared = metrics[0].base is not None
    return EvaluationReport.model_validate(
        {
            "job": "add",
            "rows": 1660,
            "metrics": [m.to_dict() for m in metrics],
            "tuned": model,
            **({"base": model | {"unanswered": 2, "unfinished": 1234}} if compared else {}),
            "settings": {},
            "versions": {},
            **more,
        }
    )


def rendered(report: EvaluationReport) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report_table(report))
    return console.export_text()


def test_the_table_says_everything_within_80_columns() -> None:
    perplexity = MetricReport.model_validate(
        {
            "name": "perplexity",
            "better": "lower",
            "rows": 100,
            "tuned": interval(80.2826, 79.655, 80.935),
            "comparisons": [
                {
                    "to": "base",
                    "value": interval(12_258.8, 12_056.01, 12_361.61),
                    "difference": interval(-12_178.5, -12_181.1, -12_176),
                    "verdict": "better",
                }
            ],
        }
    )
    unclear, worse = metric("exactMatch", (0.00012, -0.01, 0.3)), metric("tokenF1", (-0.2, -0.3, -0.1))
    text = rendered(report(perplexity, unclear, worse))
    for part in ("80.28", "[79.66, 80.94]", "12,259", "[12,056, 12,362]", "-12,178", "better"):
        assert part in text
    for part in ("+1.2e-04", "[-0.010, +0.300]", "no difference shown", "-0.200", "worse", "0.500", "1,660 test rows"):
        assert part in " ".join(text.split())
    assert "prompts too long for the base model, counted as wrong: 2" in " ".join(text.split())
    assert "answers of the base model not finished at the limit: 1,234" in " ".join(text.split())


def test_a_policys_table_compares_by_win_rate_and_leaves_the_divergence_alone() -> None:
    won = interval(0.607, 0.588, 0.626)
    wins = {"name": "winRate", "better": "higher", "rows": 100, "tuned": won, "verdict": "better", "correctedP": 0.0123}
    apart = {"name": "divergence", "better": "neither", "rows": 100, "tuned": interval(0.561, 0.468, 0.656)}
    own = [MetricReport.model_validate(data) for data in (wins, apart)]
    lines = rendered(report(metric("reward", (0.2, 0.1, 0.3)), metric("answerTokens", (5, 4, 6)), *own)).splitlines()
    (rate,) = (line.split() for line in lines if "win rate" in line)
    assert rate == ["win", "rate", "↑", "0.607", "p", "0.012"]
    (divergence,) = (line.split() for line in lines if "divergence" in line)
    assert divergence == ["divergence,", "nats", "0.561"]
    assert any("longer" in line for line in lines)
    assert sum("better" in line for line in lines) == 2


def test_domains_follow_with_their_perplexity() -> None:
    named = metric("perplexity", (-1, -2, -0.5)), metric("loss", (-1, -2, -0.5))
    text = rendered(report(named[0], domains={"case law": [m.to_dict() for m in named]}))
    assert "perplexity: case" in text, "long names go on in the next line"
    assert text.count("perplexity") == 2
    assert "loss" not in text


def test_several_opponents_stand_below_each_other_within_80_columns() -> None:
    address = "job://an-assistant-of-last-spring"
    versus = metric("perplexity", (-12_178.5, -12_181.1, -12_176)).to_dict()
    large = versus["comparisons"][0] | {"value": interval(12_258.8, 12_056.01, 12_361.61)}
    versus["comparisons"] = [large, large | {"to": address, "correctedP": 0.00001, "verdict": "no difference shown"}]
    versus["tuned"] = interval(12_258.8, 12_056.01, 12_361.61)
    task = metric("exactMatch", (0.2, 0.1, 0.3)).to_dict() | {"name": "gsm8k_cot_llama/exact_match,flexible-extract"}
    lost = {"metric": "perplexity", "passed": False, "message": "perplexity is too high"}
    won = {"metric": "perplexity", "passed": True, "message": "perplexity is low"}
    said = "12 rows [sic] show a difference of 0.2 in four of five cases"
    text = rendered(report(*map(MetricReport.model_validate, (versus, task)), gates=[lost, won], warnings=[said]))
    lines, words = text.splitlines(), " ".join(text.split())
    assert max(map(len, lines)) <= 80 and "…" not in text
    assert sum("12,259" in line for line in lines) == 2  # the tuned one is not said twice
    header = next(line for line in lines if "other" in line)
    column = slice(header.index("other"), header.index("tuned - other"))
    assert address in "".join(line[column].strip() for line in lines)
    for part in ("gsm8k_cot", "-12,178 p <0.001", "-12,178 p 0.012"):
        assert part in words
    for part in ("better", "no difference shown", "p corrected for 3 tests", "1 of 2 gates met", "rows [sic] show"):
        assert part in words


def test_a_table_without_a_base_compares_nothing() -> None:
    text = rendered(report(metric("exactMatch", None)))
    assert "base" not in text
    assert "[0.400, 0.600]" in text


def test_what_goes_into_a_status_is_rounded_and_at_most_64_metrics() -> None:
    data = metric("exactMatch", (0.2, 0.1, 0.3)).to_dict()
    data["tuned"] = interval(0.123456789, 0.1, 12_345_678.9)
    many = report(*[MetricReport.model_validate(data | {"name": f"task/{number}"}) for number in range(70)])
    result = many.to_result()
    assert (len(result.metrics), result.omitted) == (64, 6)
    assert result.metrics[0].tuned == Interval(value=0.123457, low=0.1, high=12_345_700)
    assert result.metrics[0].verdict == "better"


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    first, second = report(metric("exactMatch", None)), report(metric("tokenF1", None))
    write_report(folder, first, [{"row": 1, "prompt": "天气 😀\n"}])
    lines = (folder.evaluation / "rows.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in lines.splitlines()] == [{"row": 1, "prompt": "天气 😀\n"}]
    with pytest.raises(ZeroDivisionError):
        write_report(folder, second, ({"row": 1 // (1 - row)} for row in range(2)))
    assert read_report(folder) == first
    assert (folder.evaluation / "rows.jsonl").read_text(encoding="utf-8") == lines
    assert sorted(p.name for p in folder.evaluation.iterdir()) == ["result.json", "rows.jsonl"]


@pytest.mark.parametrize("content", [None, "", "{", '{"job": 1}'])
def test_a_missing_or_damaged_report_is_one_line(tmp_path: Path, content: str | None) -> None:
    folder = RunFolder(tmp_path)
    if content is not None:
        folder.evaluation.mkdir()
        (folder.evaluation / "result.json").write_text(content)
    with pytest.raises(InputError, match=r"result\.json: is missing or damaged; evaluate the run again$"):
        evaluation_table(folder)
