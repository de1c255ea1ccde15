"""Charts by matplotlib as SVG inside a page: their colours and font are the page's, so that they follow light and dark.

A colour is drawn as a placeholder that becomes a variable of the page's style sheet.
"""

import io
import itertools
import re
import warnings
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

INK, MUTED, GRID = "#010101", "#010102", "#010103"
SERIES = ("#010111", "#010112", "#010113", "#010114", "#010115", "#010116")
GOOD, BAD = "#010121", "#010122"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", GOOD: "good", BAD: "bad"}
_VARIABLES |= {placeholder: f"series-{index}" for index, placeholder in enumerate(SERIES, 1)}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tunesmith",
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "axes.formatter.use_mathtext": False,
}
_REMOVED = re.compile(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", re.DOTALL)
_numbers = itertools.count(1)
SIZE = (4.1, 2.5)
"""Inches, at 72 pixels of SVG each; a page scales it."""


def draw(label: str, paint: Callable[[Any], None], size: tuple[float, float] = SIZE) -> Markup:
    """A chart as an SVG element.

    Args:
        label: what it shows, for those who cannot see it.
        paint: draws on matplotlib's axes.
        size: width and height in inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that matplotlib's font lacks: the page's font is used
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _inline(buffer.getvalue(), label)


def plain_log_scale(axis: Any, which: str) -> None:
    """A logarithmic axis whose ticks are plain numbers: mathematical text would need fonts that a page lacks.

    Args:
        axis: matplotlib's axes.
        which: x or y.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    getattr(axis, f"set_{which}scale")("log")
    side = getattr(axis, f"{which}axis")
    side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    side.set_minor_formatter(NullFormatter())


def _inline(svg: str, label: str) -> Markup:
    """What matplotlib wrote, made part of a page: names of its own, the page's font and colours."""
    svg = _REMOVED.sub("", svg[svg.index("<svg") :])
    prefix = f"c{next(_numbers)}-"
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = (
        svg.replace(' id="', f' id="{prefix}').replace("url(#", f"url(#{prefix}").replace('href="#', f'href="#{prefix}')
    )
    svg = re.sub(r"font: (?:[a-z]+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for placeholder, name in _VARIABLES.items():
        svg = svg.replace(placeholder, f"var(--{name})")
    head = re.search(r'viewBox="[^"]*"', svg)
    assert head is not None
    opened = f'<svg class="chart" role="img" aria-label="{escape(label)}" {head[0]}'
    opened += ' xmlns:xlink="http://www.w3.org/1999/xlink">'
    return Markup(opened + svg[svg.index(">") + 1 :].strip())
