"""What ratings show, for the terminal."""

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tunesmith.api.outcome import Interval
from tunesmith.review.report import ReviewResults

_STYLES = {"better": "green", "worse": "red"}


def results_table(found: ReviewResults) -> RenderableType:
    """Models, pairs of models, raters, and what a reader should know."""
    return Group(_models(found), *([_pairs(found)] if found.pairs else []), _raters(found), *_remarks(found))


def _table(title: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place and column != "" else "left", overflow="fold")
    return table


def _models(found: ReviewResults) -> Table:
    likert = found.kind == "likert"
    columns = ("mean rating, 1 to 5",) if likert else ("preferred to others", "strength (Bradley-Terry)")
    table = _table(f"{found.kind}: {found.rated:,} of {found.items:,} items rated", "model", *columns)
    for model in found.models:
        cells = [_of(model.mean, 2)] if likert else [_of(model.win_rate), _of(model.strength, 2, "+")]
        table.add_row(escape(model.name), *cells)
    return table


def _pairs(found: ReviewResults) -> Table:
    likert = found.kind == "likert"
    ties = ["ties"] if found.kind == "pairwise" else []
    table = _table("", "model", "against", "rows", "difference" if likert else "preferred", *ties, "")
    for pair in found.pairs:
        figure = _of(pair.difference, 2, "+") if likert else _of(pair.win_rate)
        shares = [f"{pair.ties:.0%}"] if ties and pair.ties is not None else []
        verdict = Text(pair.verdict, style=_STYLES.get(pair.verdict, "dim"))
        table.add_row(escape(pair.model), escape(pair.other), f"{pair.rows:,}", figure, *shares, verdict)
    return table


def _raters(found: ReviewResults) -> Table:
    likert = found.kind == "likert"
    ties = ["ties"] if found.kind == "pairwise" else []
    table = _table("", "rater", "rated", *(["mean"] if likert else ["preferred the first", *ties]))
    for rater in found.raters:
        shares = [rater.first, *([rater.ties] if ties else [])]
        figures = [_number(rater.mean)] if likert else ["" if s is None else f"{s:.0%}" for s in shares]
        table.add_row(escape(rater.name), f"{rater.rated:,}", *figures)
    return table


def _remarks(found: ReviewResults) -> list[Text]:
    agreement = found.agreement
    said = "not known" if agreement.alpha is None else _of(agreement.alpha, 2).replace("\\[", "[")
    lines = [
        f"agreement of raters: {said} (Krippendorff's alpha, {agreement.level}; items with two: {agreement.items:,})"
    ]
    if (place := found.first_place) is not None:
        seen = _of(place.preferred).replace("\\[", "[")
        lines.append(f"the answer that stands first was preferred: {seen}, expected {place.expected:.0%}")
    if found.same:
        lines.append(f"not asked about, since the answers are the same: {found.same:,}; no figure counts these")
    if found.left_out:
        lines.append(f"rows that a model could not answer, left out: {found.left_out:,}")
    lines.append("in brackets 95% intervals over rows")
    return [Text(line) for line in lines] + [Text(f"warning: {text}", style="yellow") for text in found.warnings]


def _of(interval: Interval | None, decimals: int = 0, sign: str = "") -> str:
    """A share in per cent, or a number; \\[ is a bracket for rich, not markup."""
    if interval is None:
        return "-"
    form = f"{sign}.{decimals}f" if decimals else ".0%"
    return f"{interval.value:{form}} \\[{interval.low:{form}}, {interval.high:{form}}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
