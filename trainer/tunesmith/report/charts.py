"""The kinds of charts that a report has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tunesmith.report.svg import BAD, GOOD, GRID, INK, MUTED, SERIES, SIZE, draw, plain_log_scale

_POINTS = 300
"""More points than that are averaged in groups: nobody could see them apart."""
_SMOOTHED = 40
"""Points from which on a curve is drawn pale, with its moving average over it."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A chart with what a reader needs to read it."""

    title: str
    caption: str
    """What is shown, and what a bad value looks like."""
    svg: Markup


@dataclass(frozen=True)
class Line:
    """One curve."""

    label: str
    points: Points
    marked: bool = False
    """Whether each point is drawn, because there are few."""
    exact: bool = False
    """Whether it has no noise that an average would take away."""
    band: Sequence[tuple[float, float, float]] = ()
    """Places with the lower and the upper edge of an area around it."""


def curve_chart(
    title: str,
    caption: str,
    lines: Sequence[Line],
    *,
    across: str = "step",
    log: bool = False,
    limits: tuple[float, float] | None = None,
    zero: bool = False,
) -> Chart:
    """Curves over the steps.

    Args:
        title: of the chart, with the unit.
        caption: for people.
        lines: each gets a colour, and a name in the legend where there are several.
        across: what the horizontal axis counts.
        log: draws a logarithmic vertical axis.
        limits: of the vertical axis.
        zero: lets the vertical axis start at 0.
    """

    def paint(axis: Any) -> None:
        for color, line in zip(SERIES * 8, lines, strict=False):
            _curve(axis, line, color)
        axis.set(xlabel=across)
        axis.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        if log:
            plain_log_scale(axis, "y")
        if limits is not None:
            axis.set_ylim(*limits)
        elif zero:
            axis.set_ylim(0, max(axis.get_ylim()[1], 1e-9))
        if len(lines) > 1:
            axis.legend()

    ends = "; ".join(f"{line.label} from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}" for line in lines)
    return Chart(title, caption, draw(f"{title}: {ends}", paint))


def _curve(axis: Any, line: Line, color: str) -> None:
    points = thinned(line.points)
    places, values = [x for x, _ in points], [y for _, y in points]
    if line.band:
        axis.fill_between(*zip(*thinned_band(line.band), strict=True), color=color, alpha=0.15, linewidth=0)
    if line.marked or line.exact or len(points) < _SMOOTHED:
        few = line.marked or len(points) <= 12
        axis.plot(places, values, color=color, label=line.label, marker="o" if few else None)
        return
    axis.plot(places, values, color=color, alpha=0.3, linewidth=1)
    axis.plot(places, moving_average(values), color=color, label=line.label)


def moving_average(values: Sequence[float]) -> list[float]:
    """Over a twentieth of the values to either side, fewer near the ends: as many to either side everywhere."""
    width, last = max(1, len(values) // 20), len(values) - 1
    reaches = (min(width, i, last - i) for i in range(len(values)))
    windows = (values[i - reach : i + reach + 1] for i, reach in enumerate(reaches))
    return [sum(window) / len(window) for window in windows]


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most so many points, each the mean of a group; a group's place is that of its last point."""
    group = -(-len(points) // _POINTS)
    parts = [points[start : start + group] for start in range(0, len(points), group or 1)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def thinned_band(band: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """The same for the edges of an area."""
    lower, upper = thinned([(x, low) for x, low, _ in band]), thinned([(x, high) for x, _, high in band])
    return [(x, low, high) for (x, low), (_, high) in zip(lower, upper, strict=True)]


def shares_chart(title: str, caption: str, places: Sequence[float], parts: Mapping[str, Sequence[float]]) -> Chart:
    """How something is divided over the steps, as areas that add up to 1."""

    def paint(axis: Any) -> None:
        thin = {label: thinned(list(zip(places, values, strict=True))) for label, values in parts.items()}
        across = [x for x, _ in next(iter(thin.values()))]
        heights = [[y for _, y in points] for points in thin.values()]
        axis.stackplot(across, *heights, labels=list(thin), colors=SERIES[: len(thin)], alpha=0.75)
        axis.set(xlabel="step", ylim=(0, 1), xlim=(across[0], max(across[-1], across[0] + 1)))
        axis.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        axis.legend(loc="lower right", facecolor=GRID, frameon=True, framealpha=0.85, edgecolor="none")

    means = "; ".join(f"{label} {sum(values) / len(values):.0%}" for label, values in parts.items())
    return Chart(title, caption, draw(f"{title}: {means} on average", paint))


def histogram_chart(title: str, caption: str, first: float, last: float, counts: Sequence[int]) -> Chart:
    """How many fall into each of several ranges of equal width, from `first` to `last`."""
    width = (last - first) / len(counts)

    def paint(axis: Any) -> None:
        edges = [first + width * index for index in range(len(counts))]
        axis.bar(edges, counts, width=0.92 * width, align="edge", color=SERIES[0])
        axis.set(xlabel="tokens", ylabel="rows")
        axis.xaxis.get_major_locator().set_params(integer=True, nbins=8)
        axis.grid(visible=False, axis="x")

    fullest = max(range(len(counts)), key=counts.__getitem__)
    most = f"most between {first + width * fullest:.0f} and {first + width * (fullest + 1):.0f}"
    return Chart(title, caption, draw(f"{title}: {most}", paint))


def scatter_chart(title: str, caption: str, points: Sequence[tuple[Any, float]], best: int | None, log: bool) -> Chart:
    """A value against what it was reached with, a dot each; one is pointed out."""

    def paint(axis: Any) -> None:
        colors = [SERIES[0] if index == best else MUTED for index in range(len(points))]
        axis.scatter([x for x, _ in points], [y for _, y in points], c=colors, s=22, zorder=2)
        axis.set(ylabel="lowest validation loss")
        if log:
            plain_log_scale(axis, "x")

    return Chart(title, caption, draw(f"{title}: {len(points)} trials", paint))


@dataclass(frozen=True)
class Difference:
    """A line of a forest plot, turned so that more is better."""

    label: str
    value: float
    low: float
    high: float
    text: str
    """The figures in their own unit."""
    verdict: str


def forest_chart(title: str, caption: str, differences: Sequence[Difference]) -> Chart:
    """Differences with their intervals, each on a scale of its own: their units differ, 0 is the same for all."""

    def paint(axis: Any) -> None:
        for place, each in enumerate(differences):
            largest = max(abs(each.low), abs(each.high)) or 1.0
            color = {"better": GOOD, "worse": BAD}.get(each.verdict, MUTED)
            axis.plot([each.low / largest, each.high / largest], [place, place], color=color, linewidth=2)
            axis.plot([each.value / largest], [place], color=color, marker="s", markersize=5)
        axis.axvline(0, color=INK, linewidth=1)
        axis.set(xlim=(-1.1, 1.1), ylim=(len(differences) - 0.5, -0.5), yticks=range(len(differences)))
        axis.set_yticklabels([each.label for each in differences], color=INK)
        axis.set_xticks([-0.55, 0.55], ["worse", "better"])
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.spines[["left", "bottom"]].set_visible(False)

    told = "; ".join(f"{each.label} {each.text}: {each.verdict or 'no verdict'}" for each in differences)
    height = 0.5 + 0.3 * len(differences)
    return Chart(title, caption, draw(f"{title}: {told}", paint, (SIZE[0], height)))
