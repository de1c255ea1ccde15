"""The evaluation in a status as a table."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from tunesmith.api.outcome import Interval
from tunesmith.evaluation.figures import interval_text

_STYLES = {"better": "green", "worse": "red"}


def status_table(evaluation: Mapping[str, Any]) -> Table:
    """A line for each metric: the tuned model's value with its interval, the base's, and what the test shows.

    Args:
        evaluation: the status's, as the API server gives it.
    """
    metrics = evaluation["metrics"]
    compared = any("base" in metric for metric in metrics)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("metric", "tuned", *(("base", "tuned beside base") if compared else ())):
        table.add_column(name, no_wrap=name != "metric", overflow="fold")
    for metric in metrics:
        cells = [Text(metric["name"]), _value(metric["tuned"])]
        if compared:
            verdict = metric.get("verdict", "")
            cells += [_value(metric.get("base")), Text(verdict, _STYLES.get(verdict, "dim"))]
        table.add_row(*cells)
    return table


def status_caption(evaluation: Mapping[str, Any]) -> str:
    """What stands below it."""
    omitted = evaluation.get("omitted", 0)
    more = f"; {omitted} more metrics are in the report" if omitted else ""
    return f"{evaluation['rows']:,} test rows; in brackets 95% intervals{more}"


def _value(interval: Mapping[str, float] | None) -> Text:
    return Text("" if interval is None else interval_text(Interval.model_validate(interval)))
