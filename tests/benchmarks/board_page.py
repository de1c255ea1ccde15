"""A page in pixels from its top left corner: texts, frames, legends, and room for plots."""

from datetime import UTC, datetime
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from tests.benchmarks.board_fields import PALETTE

DPI = 100
INK, FAINT, EDGE, GROUND = "#1f2328", "#6e7781", "#d8dee4", "#f4f5f5"
MARGIN = 6.0
"""Pixels around the page, and between panels."""
Box = tuple[float, float, float, float]
"""Left, top, width, height."""
_STEPS = (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400)
"""Seconds between two marks of time."""


class Page:
    """A figure."""

    def __init__(self, figure: Figure, size: tuple[float, float]) -> None:
        self._figure, (self._width, self._height) = figure, size

    def heading(self, title: str, span: tuple[float, float]) -> None:
        """The board's title, and the time shown."""
        self.text(MARGIN + 6, 26, title, size=14, weight="bold")
        begin, end = map(_clock, span)
        self.text(self._width - MARGIN - 6, 26, f"{begin} to {end} UTC", size=9, color=FAINT, ha="right")

    def frame(self, box: Box, face: str = "white", edge: str = EDGE) -> None:
        """A filled box; without an edge its corners are sharp."""
        x, y, width, height = box
        style = "square,pad=0" if edge == "none" else "round,pad=0,rounding_size=3"
        patch = FancyBboxPatch(
            (x, self._height - y - height),
            width,
            height,
            boxstyle=style,
            facecolor=face,
            edgecolor=edge,
            linewidth=0.8,
            zorder=-1,
        )
        patch.set_transform(self._pixels())
        self._figure.add_artist(patch)

    def rule(self, x: float, y: float, width: float) -> None:
        """A thin line from the left to the right."""
        line = Line2D([x, x + width], [self._height - y] * 2, color="#eaeef2", linewidth=0.8, transform=self._pixels())
        self._figure.add_artist(line)

    def text(self, x: float, y: float, text: str, *, size: float, **more: Any) -> None:
        """Words at a place: the left end of their base line, unless told otherwise."""
        self._figure.text(
            x,
            self._height - y,
            text.replace("$", r"\$"),
            fontsize=size,
            transform=self._pixels(),
            **{"color": INK, **more},
        )

    def _pixels(self) -> Any:
        return mpl.transforms.Affine2D().scale(1 / DPI) + self._figure.dpi_scale_trans

    def axes(self, box: Box) -> Axes:
        """Room for a plot."""
        x, y, width, height = box
        place = (x / self._width, 1 - (y + height) / self._height, width / self._width, height / self._height)
        axes = self._figure.add_axes(place, facecolor="none")
        axes.tick_params(labelsize=7, length=0, colors=FAINT)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.grid(color="#eaeef2", linewidth=0.8)
        axes.set_axisbelow(True)
        return axes

    def time(self, axes: Axes, span: tuple[float, float]) -> None:
        """Axes over Unix time, with whole minutes below."""
        length = span[1] - span[0]
        step = next((each for each in _STEPS if length / each <= 6), _STEPS[-1])
        axes.set_xlim(*span)
        axes.xaxis.set_major_locator(MultipleLocator(step))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda moment, _: _clock(moment)))

    def legend(self, names: list[str], box: Box) -> float:
        """Names below a panel in lines from the left; returns their height, of three lines at most."""
        lines, x = 1, 0.0
        places = []
        for name in names:
            wide = 26 + 5.3 * len(name)
            if x and x + wide > box[2]:
                lines, x = lines + 1, 0.0
            places.append((x, lines, name))
            x += wide
        most = min(lines, 3)
        for left, line, name in places:
            if line <= most:
                y = box[1] + box[3] - 13 * (most - line) - 2
                self.frame((box[0] + left, y - 5, 10, 3), face=tone_of(name, names), edge="none")
                self.text(box[0] + left + 14, y, name, size=6.8, color=FAINT)
        return 13.0 * most + 2

    def words(self, box: Box, text: str) -> None:
        """A sentence in the middle of a box."""
        room = max(10, int(box[2] / 5.2))
        words, lines = text.split(), [""]
        for word in words:
            if len(lines[-1]) + len(word) + 1 > room:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        self.text(
            box[0] + box[2] / 2,
            box[1] + box[3] / 2 + 6,
            "\n".join(lines),
            size=8,
            color=FAINT,
            ha="center",
            va="center",
        )


def tone_of(name: str, names: list[str]) -> str:
    """The colour of a series: of one name on one panel it is the same."""
    return PALETTE[sorted(set(names)).index(name) % len(PALETTE)]


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M")
