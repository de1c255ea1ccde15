"""What the boards are built from: panels that cannot lack a title, a unit or a description."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    logs,
    loki,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#808080"
PROMETHEUS = model.DataSourceRef(type_val="prometheus", uid="${prometheus_datasource}")
LOKI = model.DataSourceRef(type_val="loki", uid="${loki_datasource}")

Panel = bargauge.Panel | heatmap.Panel | logs.Panel | stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel
P = TypeVar("P", bargauge.Panel, heatmap.Panel, stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)
Steps = Mapping[float, str]
"""A colour from each value on; what is below the first is green, or what `base` says."""


@dataclass(frozen=True)
class Query:
    """PromQL and what its series are called in the legend, or its column in a table."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Says:
    """What a panel says beside its data."""

    title: str
    unit: str
    """Grafana's name of it."""
    bad: str
    """A sentence: what a bad value looks like."""
    empty: str = "No data"
    """What stands there without data; a number has room for what is before a colon."""


def _said(panel: P, says: Says, width: int, height: int) -> P:
    panel.title(says.title).description(says.bad).unit(says.unit).no_value(says.empty)
    return panel.datasource(PROMETHEUS).span(width).height(height)


def _now(panel: P, queries: Sequence[Query]) -> P:
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_query(query, letter).instant())
    return panel


def _over_time(panel: P, queries: Sequence[Query]) -> P:
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_query(query, letter).range())
    return panel


def _query(query: Query, letter: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(PROMETHEUS)


def thresholds(steps: Steps, base: str = GREEN) -> build.ThresholdsConfig:
    """Colours by value."""
    first = model.Threshold(value=None, color=base)
    later = [model.Threshold(value=value, color=color) for value, color in sorted(steps.items())]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps([first, *later])


def mapping(texts: Mapping[int, tuple[str, str]]) -> list[model.ValueMapping]:
    """Text and colour of whole numbers."""
    results = {
        str(value): model.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    return [model.ValueMap(options=results)]


def number(
    says: Says,
    *queries: Query,
    steps: Steps | None = None,
    base: str = GREEN,
    texts: Mapping[int, tuple[str, str]] | None = None,
    width: int = 3,
    height: int = 4,
    link: str = "",
) -> stat.Panel:
    """One large number of now for each series; coloured where `steps` or `texts` say what is bad."""
    panel = _now(_said(stat.Panel(), says, width, height), queries).no_value(says.empty.split(":")[0])
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).graph_mode(look.BigValueGraphMode.NONE)
    if texts is not None:
        panel.mappings(mapping(texts)).color_mode(look.BigValueColorMode.BACKGROUND)
    if steps is not None:
        panel.thresholds(thresholds(steps, base)).color_mode(look.BigValueColorMode.BACKGROUND)
    elif texts is None:
        panel.thresholds(thresholds({}, BLUE)).color_mode(look.BigValueColorMode.VALUE)
    return panel.data_links([build.DashboardLink("Open the board").url(link)]) if link else panel


def graph(
    says: Says,
    *queries: Query,
    steps: Steps | None = None,
    base: str = GREEN,
    stack: bool = False,
    shares: bool = False,
    width: int = 8,
    height: int = 8,
    least: float | None = 0,
    most: float | None = None,
    link: str = "",
) -> timeseries.Panel:
    """Lines over time; `stack` puts them on each other, `shares` makes that 100%; `steps` are dashed lines."""
    panel = _over_time(_said(timeseries.Panel(), says, width, height), queries)
    panel.line_width(1).fill_opacity(60 if stack or shares else 8).show_points(look.VisibilityMode.AUTO)
    panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    legend = common.VizLegendOptions().display_mode(look.LegendDisplayMode.LIST).placement(look.LegendPlacement.BOTTOM)
    panel.legend(legend.show_legend(True))
    tooltip = common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING)
    panel.tooltip(tooltip)
    if stack or shares:
        mode = look.StackingMode.PERCENT if shares else look.StackingMode.NORMAL
        panel.stacking(common.StackingConfig().mode(mode).group("A"))
    if least is not None:
        panel.min(least)
    if most is not None:
        panel.max(most)
    if steps is not None:
        panel.thresholds(thresholds(steps, base))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(look.GraphThresholdsStyleMode.DASHED))
    return panel.data_links([build.DashboardLink("Open the board of the job").url(link)]) if link else panel


def thin(panel: timeseries.Panel, ends: str) -> timeseries.Panel:
    """Lines whose names end so are dashed, to stand behind the others."""
    style = model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [4, 6]})
    return panel.override_by_regexp(f"/ ({ends})$/", [style, model.DynamicConfigValue("custom.fillOpacity", 0)])


def on_the_right(panel: timeseries.Panel, end: str) -> timeseries.Panel:
    """Lines whose names end so have an axis of their own, on the right."""
    return panel.override_by_regexp(f"/ {end}$/", [model.DynamicConfigValue("custom.axisPlacement", "right")])


def bars(says: Says, *queries: Query, width: int = 8, height: int = 8, color: str = BLUE) -> bargauge.Panel:
    """A bar for each series, now."""
    panel = _now(_said(bargauge.Panel(), says, width, height), queries)
    panel.orientation(look.VizOrientation.HORIZONTAL).display_mode(look.BarGaugeDisplayMode.BASIC)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).min(0)
    return panel.thresholds(thresholds({}, color))


def rows(
    says: Says,
    columns: Mapping[str, str],
    *queries: Query,
    units: Mapping[str, str] | None = None,
    colors: Mapping[str, Steps] | None = None,
    texts: Mapping[str, Mapping[int, tuple[str, str]]] | None = None,
    links: Mapping[str, str] | None = None,
    width: int = 12,
    height: int = 8,
    sort: str = "",
) -> table.Panel:
    """A table of now: a row for each set of labels, a column for each label of `columns` and each query.

    Args:
        columns: titles of labels, in order; labels without one are left out.
        queries: the legend is the column's title.
        units: of columns, by title, where it is not the panel's.
        colors: of a column's cells.
        texts: of a column's values.
        links: of a column's cells.
        sort: the column that the rows are sorted by, highest first.
    """
    panel = _said(table.Panel(), says, width, height)
    titles = {**columns, "Value": queries[0].legend}
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_query(query, letter).instant().format(PromQueryFormat.TABLE))
        titles[f"Value #{letter}"] = query.legend
    shown = {"include": {"names": [*titles]}}
    named = {
        "excludeByName": {},
        "indexByName": {name: place for place, name in enumerate(titles)},
        "renameByName": titles,
    }
    for name, options in (("merge", {}), ("filterFieldsByName", shown), ("organize", named)):
        panel.with_transformation(model.DataTransformerConfig(id_val=name, options=options))
    for title, unit in (units or {}).items():
        panel.override_by_name(title, [model.DynamicConfigValue("unit", unit)])
    for title, steps in (colors or {}).items():
        panel.override_by_name(title, _cell("thresholds", thresholds(steps).build(), "color-background"))
    for title, mapped in (texts or {}).items():
        panel.override_by_name(title, _cell("mappings", mapping(mapped), "color-text"))
    for title, url in (links or {}).items():
        link = {"title": "Open the board of the job", "url": url}
        panel.override_by_name(title, [model.DynamicConfigValue("links", [link])])
    return panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)]) if sort else panel


def _cell(what: str, value: object, kind: str) -> list[model.DynamicConfigValue]:
    """A column's cells coloured by their value."""
    return [
        model.DynamicConfigValue(what, value),
        model.DynamicConfigValue("color", {"mode": "thresholds"}),
        model.DynamicConfigValue("custom.cellOptions", {"type": kind}),
    ]


def heat_map(says: Says, *queries: Query, bucket: float, width: int = 12, height: int = 8) -> heatmap.Panel:
    """How many series are in each bucket of values, over time."""
    panel = _over_time(_said(heatmap.Panel(), says, width, height), queries)
    size = common.HeatmapCalculationBucketConfig().mode(look.HeatmapCalculationMode.SIZE).value(str(bucket))
    calculation = common.HeatmapCalculationOptions().y_buckets(
        size.scale(common.ScaleDistributionConfig().type(look.ScaleDistribution.LINEAR))
    )
    color = heatmap.HeatmapColorOptions().mode(heat.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64).exponent(0.5)
    return panel.calculate(True).calculation(calculation).color(color).cell_gap(1)


def timeline(
    says: Says, *queries: Query, texts: Mapping[int, tuple[str, str]], width: int = 24, height: int = 6
) -> statetimeline.Panel:
    """The state of each series over time."""
    panel = _over_time(_said(statetimeline.Panel(), says, width, height), queries)
    panel.mappings(mapping(texts)).show_value(look.VisibilityMode.AUTO).row_height(0.8).fill_opacity(80).line_width(0)
    return panel.merge_values(True)


def log_lines(says: Says, expr: str, width: int = 24, height: int = 10) -> logs.Panel:
    """Lines from Loki, newest first."""
    panel = logs.Panel().title(says.title).description(says.bad).unit(says.unit).no_value(says.empty)
    panel.datasource(LOKI).span(width).height(height).show_time(True).wrap_log_message(True)
    panel.sort_order(look.LogsSortOrder.DESCENDING)
    return panel.with_target(loki.Dataquery().expr(expr).ref_id("A").datasource(LOKI).query_type("range"))
