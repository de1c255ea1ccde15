"""The data of a run as a table, shown before its first step."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

_BARS, _PLAIN_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"


def data_table(summary: dict[str, Any], console: Console) -> RenderableType:
    """Rows, tokens, lengths, and what a user should know, in a few lines of at most 80 columns.

    Args:
        summary: what data.json holds.
        console: where it is shown; one that knows only ASCII gets plain characters.
    """
    bars = _BARS if console.encoding.lower().startswith("utf") else _PLAIN_BARS
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "rows", "tokens", "learned", *(["in an epoch"] if len(summary["sets"]) > 1 else [])):
        table.add_column(name, justify="right" if name else "left", overflow="ellipsis", no_wrap=True)
    for part in summary["sets"]:
        name, share = "to train on", []
        if len(summary["sets"]) > 1:
            name = part["source"].rstrip("/").rpartition("/")[2]
            share = [f"{part['drawn']:,} ({part['drawn'] / summary['train_rows']:.0%})"]
        table.add_row(name, *(f"{part[key]:,}" for key in ("rows", "tokens", "learned_tokens")), *share)
    for name, key in (("to validate on", "validation_rows"), ("to test with", "test_rows")):
        if summary[key]:
            table.add_row(name, f"{summary[key]:,}")
    lines = [Text(line, overflow="fold") for line in _lines(summary, bars)]
    return Group(table, *lines, *(Text(f"warning: {text}", style="yellow") for text in summary["warnings"]))


def _lines(summary: dict[str, Any], bars: str) -> Iterator[str]:
    lengths = summary["lengths"]
    histogram = histogram_line(lengths["counts"], bars)
    yield f"tokens per row: {lengths['shortest']} |{histogram}| {lengths['longest']}, median {lengths['median']}"
    notes = {
        "truncated": "cut off at maxLength",
        "dropped": "left out, longer than maxLength",
        "repeated": "the same as an earlier row",
    }
    said = [f"{summary[key]:,} {text}" for key, text in notes.items() if summary[key]]
    if said:
        yield "of the rows: " + "; ".join(said)


def histogram_line(counts: list[int], bars: str = _BARS) -> str:
    """One character for each count; only a count of 0 is empty."""
    highest = max(counts)
    return "".join(bars[-(-count * (len(bars) - 1) // highest)] for count in counts)
