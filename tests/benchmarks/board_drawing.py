"""Draws a board of Grafana as one picture, laid out like its grid; for where no Grafana runs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from tests.benchmarks.board_fields import Field, Line, Table, colour, legend_of, table_of
from tests.benchmarks.board_page import DPI, EDGE, FAINT, GROUND, INK, MARGIN, Box, Page, tone_of
from tests.benchmarks.report_pictures import save

_COLUMN, _LINE, _HEADING = 62.0, 36.0, 44.0
"""Pixels of a column and a line of the grid, and of what is above it."""
Answers = Mapping[str, Sequence[Line]]
"""The series of each query of a panel by its letter."""
Span = tuple[float, float]
"""The time shown, in Unix time."""


def draw(board: Mapping[str, Any], answers: Mapping[int, Answers], span: Span, target: Path) -> None:
    """Draws a board into a PNG.

    Args:
        board: its JSON, with all rows open.
        answers: by the panel's id.
        span: the time shown.
    """
    panels = board["panels"]  # what is in a closed row is not there
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    size = (24 * _COLUMN + 2 * MARGIN, height * _LINE + 2 * MARGIN + _HEADING)
    with plt.rc_context({"font.size": 8, "font.family": "DejaVu Sans", "text.color": INK, "axes.edgecolor": EDGE}):
        figure = plt.figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI, facecolor=GROUND)
        page = _Board(figure, size)
        page.heading(board["title"], span)
        for panel in panels:
            page.panel(panel, answers.get(panel["id"], {}), span)
        with io.BytesIO() as picture:
            figure.savefig(picture, dpi=DPI, facecolor=GROUND)
            save(Image.open(picture), target)
        plt.close(figure)


class _Board(Page):
    """Draws panels at their places."""

    def panel(self, panel: Mapping[str, Any], answers: Answers, span: Span) -> None:
        place = panel["gridPos"]
        x, y = MARGIN + place["x"] * _COLUMN, _HEADING + place["y"] * _LINE
        if panel["type"] == "row":
            mark = "▸" if panel.get("collapsed") else "▾"
            self.text(x + 4, y + 24, f"{mark} {panel['title']}", size=10.5, weight="bold")
            return
        box = (x + MARGIN / 2, y + MARGIN / 2, place["w"] * _COLUMN - MARGIN, place["h"] * _LINE - MARGIN)
        self.frame(box)
        room = int(box[2] / 6.1)
        title = panel["title"] if len(panel["title"]) <= room else panel["title"][: room - 1] + "…"
        self.text(box[0] + 8, box[1] + 17, title, size=8.5, weight="bold")
        field = Field(panel)
        lines = [
            Line(legend_of(target.get("legendFormat", ""), line.labels), line.labels, line.samples, target["refId"])
            for target in panel.get("targets", [])
            for line in answers.get(target["refId"], ())
        ]
        inner = (box[0] + 8, box[1] + 26, box[2] - 16, box[3] - 34)
        if not lines:
            self.words(box, field.no_value)
            return
        kinds = {
            "stat": self._stat,
            "timeseries": self._timeseries,
            "table": self._table,
            "bargauge": self._bars,
            "heatmap": self._heatmap,
            "state-timeline": self._states,
        }
        kinds[panel["type"]](panel, field, lines, inner, span)

    def _stat(self, panel: Mapping[str, Any], field: Field, lines: list[Line], box: Box, span: Span) -> None:
        shown = lines[:6]
        columns = 1 if len(shown) == 1 else 2 if len(shown) <= 4 else 3
        rows = -(-len(shown) // columns)
        filled = panel["options"].get("colorMode") == "background"
        for number, line in enumerate(shown):
            value = line.samples[-1][1]
            width, height = box[2] / columns, box[3] / rows
            x, y = box[0] + width * (number % columns), box[1] + height * (number // columns)
            tone = field.colour_of(value) or colour("blue")
            if filled:
                self.frame((x + 1, y + 1, width - 2, height - 2), face=tone, edge="none")
            text = field.text_of(value)
            named = len(lines) > 1
            size = min(26.0, height * (0.36 if named else 0.5), 1.05 * width / max(3, len(text)))
            ink = "white" if filled else tone
            self.text(
                x + width / 2,
                y + height * (0.62 if named else 0.5),
                text,
                size=size,
                weight="bold",
                color=ink,
                ha="center",
                va="center",
            )
            if named:
                name = line.name if len(line.name) < width / 5 else line.name[: int(width / 5)] + "…"
                self.text(
                    x + width / 2,
                    y + height * 0.2,
                    name,
                    size=6.5,
                    color=ink if filled else FAINT,
                    ha="center",
                    va="center",
                )

    def _timeseries(self, panel: Mapping[str, Any], field: Field, lines: list[Line], box: Box, span: Span) -> None:
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        stacking = custom.get("stacking", {}).get("mode", "none")
        names = [line.name for line in lines]
        used = self.legend(names, box) if any(names) else 0
        axes = self.axes((box[0] + 52, box[1] + 4, box[2] - 62, box[3] - 22 - used))
        moments = sorted({moment for line in lines for moment, _ in line.samples})
        tables = [dict(line.samples) for line in lines]
        values = np.array([[row.get(moment, np.nan) for moment in moments] for row in tables])
        colours = [tone_of(name, names) for name in names]
        if stacking in ("normal", "percent"):
            whole = np.nan_to_num(values)
            if stacking == "percent":
                whole = whole / np.maximum(whole.sum(axis=0), 1e-12)
            axes.stackplot(moments, whole, colors=colours, alpha=0.75, linewidth=0)
        else:
            for row, tone in zip(values, colours, strict=True):
                seen = np.isfinite(row)
                axes.plot(moments, row, color=tone, linewidth=1.2, marker="." if seen.sum() < 3 else "")
        self._thresholds(panel, field, axes)
        self.time(axes, span)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: field.text_of(value)))
        self._limit(panel, axes, stacked=stacking != "none")

    def _limit(self, panel: Mapping[str, Any], axes: Axes, *, stacked: bool) -> None:
        """From the panel's lowest to its highest value, with some room above lines; zeros stand at the bottom."""
        said = panel["fieldConfig"]["defaults"]
        low, high = axes.get_ylim()
        low = said.get("min", low)
        room = 0.0 if stacked else 0.04 * (high - low)
        axes.set_ylim(low, said.get("max", high + room if high > 1e-9 and axes.dataLim.ymax > 0 else low + 1))

    def _thresholds(self, panel: Mapping[str, Any], field: Field, axes: Axes) -> None:
        style = panel["fieldConfig"]["defaults"].get("custom", {}).get("thresholdsStyle", {}).get("mode", "off")
        if style == "off":
            return
        top = axes.get_ylim()[1]
        for value, tone in field.steps:
            if value is not None and value <= top:
                axes.axhline(value, color=tone, linestyle="--", linewidth=1)

    def _table(self, panel: Mapping[str, Any], field: Field, lines: list[Line], box: Box, span: Span) -> None:
        table: Table = table_of(panel, lines)
        weights = [
            max([len(title), *(len(row[n].text) for row in table.rows)]) + 2 for n, title in enumerate(table.titles)
        ]
        edges = box[0] + box[2] * np.cumsum([0, *weights]) / max(1, sum(weights))
        high = 20.0
        for number, title in enumerate(table.titles):
            self.text(edges[number] + 5, box[1] + 13, title, size=7.5, color=FAINT, weight="bold")
        self.rule(box[0], box[1] + high, box[2])
        fits = int((box[3] - high) / high)
        for line, row in enumerate(table.rows[:fits]):
            y = box[1] + high * (line + 1)
            for number, cell in enumerate(row):
                wide = edges[number + 1] - edges[number]
                if cell.face:
                    self.frame((edges[number] + 1, y + 1, wide - 2, high - 2), face=cell.face, edge="none")
                self.text(
                    edges[number] + 5, y + 14, cell.text, size=7.5, color="white" if cell.face else cell.ink or INK
                )
            self.rule(box[0], y + high, box[2])

    def _bars(self, panel: Mapping[str, Any], field: Field, lines: list[Line], box: Box, span: Span) -> None:
        values = [line.samples[-1][1] for line in lines]
        most = max([*values, 1e-12])
        height = min(44.0, box[3] / len(lines))
        for number, (line, value) in enumerate(sorted(zip(lines, values, strict=True), key=lambda pair: -pair[1])):
            y = box[1] + number * height
            self.text(box[0] + 2, y + 11, line.name, size=7.5)
            tone = field.colour_of(value) or colour("blue")
            wide = 0.8 * box[2]
            self.frame((box[0], y + 15, wide, height - 20), face="#eaeef2", edge="none")
            self.frame((box[0], y + 15, max(2.0, wide * value / most), height - 20), face=tone, edge="none")
            self.text(
                box[0] + wide + 8,
                y + 15 + (height - 20) / 2,
                field.text_of(value),
                size=9,
                weight="bold",
                color=tone,
                va="center",
            )

    def _heatmap(self, panel: Mapping[str, Any], field: Field, lines: list[Line], box: Box, span: Span) -> None:
        size = float(panel["options"]["calculation"]["yBuckets"]["value"])
        axes = self.axes((box[0] + 52, box[1] + 4, box[2] - 62, box[3] - 22))
        samples = np.array([pair for line in lines for pair in line.samples])
        edges = np.linspace(span[0], span[1], 61)
        tops = np.arange(0, max(1.0, samples[:, 1].max()) + size * 1.01, size)
        counts, _, _ = np.histogram2d(samples[:, 0], samples[:, 1], bins=[edges, tops])
        steps = max(1, round((span[1] - span[0]) / 60 / max(1e-9, np.median(np.diff(np.unique(samples[:, 0]))))))
        shown = np.ma.masked_equal(counts.T / steps, 0)
        mesh = axes.pcolormesh(edges, tops, shown**0.7, cmap="Oranges", vmin=0, edgecolors="white", linewidth=0.4)
        mesh.set_rasterized(True)
        self.time(axes, span)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: field.text_of(value)))

    def _states(self, panel: Mapping[str, Any], field: Field, lines: list[Line], box: Box, span: Span) -> None:
        axes = self.axes((box[0] + 110, box[1] + 2, box[2] - 118, box[3] - 18))
        self.time(axes, span)
        for number, line in enumerate(lines):
            begin = line.samples[0]
            step = (span[1] - span[0]) / 200
            for before, here in zip(
                line.samples, [*line.samples[1:], (line.samples[-1][0] + step, np.nan)], strict=True
            ):
                if here[1] != before[1] or here[0] - before[0] > 4 * step:
                    self._state(axes, field, len(lines) - 1 - number, begin, before[0] + min(step, here[0] - before[0]))
                    begin = here
        axes.set_ylim(-0.5, len(lines) - 0.5)
        axes.set_yticks(range(len(lines)), [line.name for line in reversed(lines)], fontsize=7.5)
        axes.grid(False)

    def _state(self, axes: Axes, field: Field, row: int, begin: tuple[float, float], end: float) -> None:
        tone = field.colour_of(begin[1]) or FAINT
        axes.add_patch(
            Rectangle((begin[0], row - 0.4), end - begin[0], 0.8, facecolor=tone, edgecolor="white", linewidth=0.5)
        )
        text = field.text_of(begin[1])
        low, high = axes.get_xlim()
        if axes.bbox.width * (end - begin[0]) / (high - low) > 6.2 * len(text):
            axes.text(begin[0], row, f" {text}", color="white", fontsize=7, va="center", clip_on=True)
