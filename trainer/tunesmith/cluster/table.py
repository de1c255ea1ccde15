"""The table of `tunesmith top`: for a terminal, and as plain columns for pipes and files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunesmith.cluster.rows import Row, summary
from tunesmith.cluster.words import NOTHING, figure, span

_BAR = 10
_WIDE = 110
"""Characters from which on there is room for bars."""
_COLOURS = {
    "Training": "green",
    "Evaluating": "green",
    "Supervised": "green",
    "Reward": "green",
    "PPO": "green",
    "Starting": "yellow",
    "Queued": "yellow",
    "Pending": "yellow",
    "Failed": "red",
}


@dataclass(frozen=True)
class _Column:
    title: str
    cell: Callable[[Row, datetime], str]
    is_number: bool = False


_NAMESPACE = _Column("NAMESPACE", lambda row, now: row.namespace)
_REWARD = _Column("REWARD", lambda row, now: figure(row.reward, ".3f"), True)
_PROGRESS = _Column("PROGRESS", lambda row, now: NOTHING if row.percentage is None else f"{row.percentage}%", True)
_PHASE = _Column("PHASE", lambda row, now: row.phase)


def _columns(rows: Sequence[Row], all_namespaces: bool) -> list[_Column]:
    rewards = any(row.reward is not None for row in rows)
    return [
        *([_NAMESPACE] if all_namespaces else []),
        _Column("NAME", lambda row, now: row.name),
        _Column("KIND", lambda row, now: row.what),
        _PHASE,
        _PROGRESS,
        _Column("LOSS", lambda row, now: figure(row.loss, ".4f"), True),
        *([_REWARD] if rewards else []),
        _Column("TOKENS/S", lambda row, now: figure(row.tokens_per_second, ",.0f"), True),
        _Column("GPUS", lambda row, now: figure(row.gpus, "d"), True),
        _Column("UTIL", lambda row, now: figure(row.utilization, ".0%"), True),
        _Column("ATTEMPTS", lambda row, now: figure(row.attempts, "d"), True),
        _Column("AGE", lambda row, now: span((now - row.created).total_seconds()), True),
        _Column("LEFT", lambda row, now: NOTHING if row.remaining is None else span(row.remaining), True),
    ]


def plain_table(rows: Sequence[Row], all_namespaces: bool, now: datetime) -> str:
    """Columns with two spaces between, and a line of titles, as kubectl writes them."""
    columns = _columns(rows, all_namespaces)
    lines = [[column.title for column in columns]]
    lines += [[column.cell(row, now) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]

    def padded(line: list[str]) -> str:
        cells = zip(columns, line, widths, strict=True)
        return "  ".join(f"{c:>{width}}" if column.is_number else f"{c:<{width}}" for column, c, width in cells)

    return "\n".join(padded(line).rstrip() for line in lines)


def live_table(
    rows: Sequence[Row], all_namespaces: bool, now: datetime, width: int, height: int | None, notes: Sequence[str]
) -> RenderableType:
    """The same for a terminal, with bars where there is room; the lines that fit, then how many more there are.

    Args:
        rows: in their order.
        all_namespaces: whether to name the namespace of each.
        now: the time.
        width: of the terminal, in characters.
        height: its lines; as many as it takes by default.
        notes: what to say below.
    """
    room = len(rows) if height is None else max(1, height - 4 - len(notes))
    shown = rows if len(rows) <= room else rows[: room - 1]
    columns = _columns(shown, all_namespaces)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_name = column.title in ("NAME", "NAMESPACE")
        least = None if is_name else len(column.title)
        to_right = column.is_number and column is not _PROGRESS
        table.add_column(
            column.title, justify="right" if to_right else "left", no_wrap=True, min_width=least, overflow="ellipsis"
        )
    for row in shown:
        table.add_row(*(_cell(column, row, now, width) for column in columns))
    below = [Text(f"... {len(rows) - len(shown):,} more", "dim")] if len(shown) < len(rows) else []
    return Group(Text(summary_line(rows), "bold"), Text(""), table, *below, *(Text(note, "dim") for note in notes))


def _cell(column: _Column, row: Row, now: datetime, width: int) -> Text:
    text = column.cell(row, now)
    if column is _PHASE:
        return Text(text, _COLOURS.get(row.phase, ""))
    if column is _PROGRESS and width >= _WIDE and row.percentage is not None:
        done = _BAR * min(100, row.percentage) // 100
        return Text.assemble(("━" * done, "green"), ("━" * (_BAR - done), "bright_black"), f" {text:>4}")
    return Text(text)


def summary_line(rows: Sequence[Row]) -> str:
    """3 GPUs held; 12 jobs and pipelines: 2 Training, 1 Queued, 9 Succeeded."""
    held, counts = summary(rows)
    phases = ", ".join(f"{count:,} {phase}" for phase, count in counts.items())
    gpus = f"{held:,} GPU{'' if held == 1 else 's'} held"
    return f"{gpus}; {len(rows):,} jobs and pipelines" + (f": {phases}" if phases else "")
