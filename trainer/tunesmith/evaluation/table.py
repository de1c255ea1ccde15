"""The evaluation as a table for the terminal."""

from typing import cast

from rich import box
from rich.table import Table

from tunesmith.api.metric import MetricName
from tunesmith.api.outcome import Interval
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.report import EvaluationReport, MetricReport, read_report
from tunesmith.evaluation.verdict import Better, Verdict

_TITLES: dict[MetricName, str] = {
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
_STYLES: dict[Verdict, str] = {"better": "green", "worse": "red"}


def evaluation_table(folder: RunFolder) -> Table:
    """The table of the evaluation in a run's folder.

    Raises:
        InputError: there is none.
    """
    return report_table(read_report(folder))


def report_table(report: EvaluationReport) -> Table:
    """A line for each metric: both models and their difference, with intervals, and what these show."""
    caption = "; ".join([f"{report.rows:,} test rows; in brackets 95% intervals", *report.remarks])
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left", pad_edge=False)
    for name in ("metric", "tuned", *(("base", "tuned - base") if report.base else ())):
        table.add_column(name, no_wrap=True)
    for metric in report.metrics:
        table.add_row(*_cells(metric))
    return table


def _cells(metric: MetricReport) -> list[str]:
    title = _TITLES.get(cast(MetricName, metric.name), metric.name)
    cells = [title + _ARROWS[metric.better], _text(metric.tuned)]
    if (base := metric.base) is not None:
        cells += [_text(base.value), f"{_text(base.difference, sign='+')}\n{_styled(base.verdict)}"]
    elif metric.verdict:
        cells += ["", _styled(metric.verdict)]
    return cells


def _styled(verdict: Verdict) -> str:
    return f"[{_STYLES.get(verdict, 'dim')}]{verdict}[/]"


def _text(interval: Interval, sign: str = "") -> str:
    # \[ is a bracket for rich, not markup
    return f"{_number(interval.value, sign)}\n\\[{_number(interval.low, sign)}, {_number(interval.high, sign)}]"


def _number(value: float, sign: str) -> str:
    """Three decimals; fewer for large numbers, an exponent for what would look like zero."""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 0.0005:
        return format(value, f"{sign}.1e")
    decimals = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return format(value, f"{sign},.{decimals}f")
