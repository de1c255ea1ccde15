"""The evaluation as a table for the terminal."""

from collections.abc import Iterator
from typing import cast

from rich import box
from rich.markup import escape
from rich.table import Table

from tunesmith.api.metric import MetricName
from tunesmith.api.outcome import Interval
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.figures import number_text, p_text, range_text
from tunesmith.evaluation.report import Comparison, EvaluationReport, MetricReport, read_report
from tunesmith.evaluation.verdict import Better, Verdict

TITLES: dict[MetricName, str] = {
    "loss": "loss, nats",
    "perplexity": "perplexity",
    "exactMatch": "exact match",
    "numericMatch": "numeric match",
    "tokenF1": "token F1",
    "accuracy": "accuracy",
    "macroF1": "macro F1",
    "microF1": "micro F1",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "rougeW": "ROUGE-W",
    "meteor": "METEOR",
    "bertScore": "BERTScore",
    "judge": "judge",
    "answerTokens": "answer tokens",
    "pairAccuracy": "pair accuracy",
    "reward": "reward",
    "winRate": "win rate",
    "divergence": "divergence, nats",
}
_ARROWS: dict[Better, str] = {"higher": " ↑", "lower": " ↓", "neither": ""}
_LONGEST = 18
"""Characters of a metric's name and of an address, before they go on in the next line."""
_STYLES: dict[Verdict, str] = {"better": "green", "worse": "red"}


def evaluation_table(folder: RunFolder) -> Table:
    """The table of the evaluation in a run's folder.

    Raises:
        InputError: there is none.
    """
    return report_table(read_report(folder))


def report_table(report: EvaluationReport) -> Table:
    """A line for each metric and model that it is compared with: both values and their difference, with intervals, the
    chance that both are alike, and what the test shows; of domains the perplexity."""
    others = {comparison.to for metric in report.metrics for comparison in metric.comparisons}
    other = "base" if others <= {"base"} else "other"
    compared = report.base is not None or others
    table = Table(box=box.SIMPLE_HEAD, caption=_caption(report), caption_justify="left", pad_edge=False)
    for name in ("metric", "tuned", *((other, f"tuned - {other}") if compared else ())):
        long = name in ("metric", "other")  # names of tasks, and addresses
        table.add_column(name, no_wrap=not long, overflow="fold", max_width=_LONGEST if long else None)
    for metric in report.metrics:
        for cells in _lines(_title(metric), metric, named=other != "base"):
            table.add_row(*cells)
    for domain, metrics in report.domains.items():
        for metric in metrics:
            if metric.name == "perplexity":  # the loss says the same
                table.add_section()
                for cells in _lines(f"{_title(metric)}: {domain}", metric, named=other != "base"):
                    table.add_row(*cells)
    return table


def _title(metric: MetricReport) -> str:
    return TITLES.get(cast(MetricName, metric.name), metric.name)


def _caption(report: EvaluationReport) -> str:
    remarks = [f"{report.rows:,} test rows; in brackets 95% intervals", *report.remarks]
    tests = sum(p is not None for metric in report.metrics for p in (metric.p, *(c.p for c in metric.comparisons)))
    if tests > 1:
        remarks.insert(1, f"p corrected for {tests} tests")
    if report.gates:
        remarks.append(f"{sum(gate.passed for gate in report.gates)} of {len(report.gates)} gates met")
    return escape("\n".join(["; ".join(remarks), *report.warnings]))


def _lines(title: str, metric: MetricReport, named: bool) -> Iterator[list[str]]:
    """The cells of each comparison; the metric itself stands in the first."""
    first = [escape(title) + _ARROWS[metric.better], _text(metric.tuned)]
    if not metric.comparisons:
        verdict = ["", f"{_chance(metric.corrected_p)}\n{_styled(metric.verdict)}".strip()] if metric.verdict else []
        yield first + verdict
    for comparison in metric.comparisons:
        yield first + _beside(comparison, named)
        first = ["", ""]


def _beside(comparison: Comparison, named: bool) -> list[str]:
    name = [f"[dim]{escape(comparison.to)}[/]"] if named else []
    difference = comparison.difference
    figures = f"{number_text(difference.value, '+')}  {_chance(comparison.corrected_p)}".rstrip()
    return [
        "\n".join([_text(comparison.value), *name]),
        f"{figures}\n{escape(range_text(difference, '+'))}\n{_styled(comparison.verdict)}",
    ]


def _chance(p: float | None) -> str:
    return "" if p is None else p_text(p)


def _styled(verdict: Verdict) -> str:
    return f"[{_STYLES.get(verdict, 'dim')}]{verdict}[/]" if verdict else ""


def _text(interval: Interval) -> str:
    return f"{number_text(interval.value)}\n{escape(range_text(interval))}"
