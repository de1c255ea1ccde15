"""What Grafana's dashboard-linter asks of a dashboard, from the documentation of its rules, and what we ask beside it.

Its module cannot be built here: it needs Loki, which is under the AGPL. Its rules template-job-rule,
template-instance-rule, target-job-rule and target-instance-rule do not fit: a job's series are known by its namespace
and name, whoever scraped them, and stand beside those of DCGM's exporter, the kubelet and Ray, which others scrape.
That queries parse (target-promql-rule, template-label-promql-rule) is for promtool to say: tests/integration/boards.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
UNITS = {*"none short sci percentunit s h bytes Bps watt flops ops reqps currencyUSD".split()}  # noqa: SIM905
"""Those of Grafana's units (packages/grafana-data/src/valueFormats/categories.ts) that the boards use."""
SET_BY_CHART = {"@gpuHourPrice@": "2.5", "@currency@": "USD", "@docsBase@": "https://git.example.com/"}
SET_BY_GRAFANA = {"__rate_interval": "2m", "__range": "6h", "gpu_hour_price": "2.5"}
_COUNTER = re.compile(r"\b\w+_total\b")
_RATED = re.compile(r"\b(?:rate|irate|increase)\(\s*\w+_total(?:\{[^}]*\})?\[")
_OVER_JOBS = re.compile(r"increase\(\(max by \([\w, ]+\) \(\w+_total(?:\{[^}]*\})?\)\)\[")
"""A subquery joins the series of one operator and of the next to one before its increase is taken."""
_OF_RANGE = re.compile(r"\b(?:rate|irate)\([^\[\]]*\[([^\]]*)\]")


def panels(board: Json) -> Iterator[Json]:
    """All panels, those in closed rows included; no rows."""
    for each in board["panels"]:
        yield from each["panels"] if each["type"] == "row" else (each,)


def expressions(board: Json) -> Iterator[tuple[str, str]]:
    """The PromQL of each target, with the panel's title."""
    for panel in panels(board):
        for target in panel["targets"]:
            if target["datasource"]["type"] == "prometheus":
                yield panel["title"], target["expr"]


def filled(text: str) -> str:
    """An expression as Prometheus gets it: variables replaced."""
    return re.sub(r"\$([a-z_]\w*)", lambda found: SET_BY_GRAFANA.get(found[1], ".+"), text)


def problems(board: Json) -> list[str]:
    """What is wrong, each with its rule; nothing where all is well."""
    found = [*_of_board(board), *_of_variables(board), *_of_layout(board)]
    for panel in panels(board):
        found += (f"{panel.get('title', panel['id'])}: {problem}" for problem in _of_panel(panel))
    return found


def _of_board(board: Json) -> Iterator[str]:
    if board["editable"]:
        yield "uneditable-dashboard: a change in Grafana would be lost"
    ids = [each["id"] for each in [*panels(board), *(each for each in board["panels"] if each["type"] == "row")]]
    if len(ids) != len(set(ids)):
        yield "ids: two panels have the same"


def _of_variables(board: Json) -> Iterator[str]:
    variables = {each["name"]: each for each in board["templating"]["list"]}
    sources = [each for each in variables.values() if each["type"] == "datasource"]
    if not sources:
        yield "template-datasource-rule: the data source is no variable"
    for each in sources:
        if (each["name"], each["label"]) != (f"{each['query']}_datasource", f"{each['query'].title()} data source"):
            yield f"template-datasource-rule: {each['name']}, {each['label']}"
    for each in variables.values():
        if each["type"] == "query" and each["refresh"] != 2:
            yield f"template-on-time-change-reload-rule: {each['name']}"
        if each.get("includeAll") and each.get("allValue") != ".+":
            yield f"variables: All of {each['name']} is no regular expression"
    text = repr([*panels(board), *variables.values()])
    used = {name for name in re.findall(r"\$\{?([a-z_]\w*)", text) if not name.startswith("__")}
    for name in used ^ variables.keys():
        yield f"variables: {name} is {'not defined' if name in used else 'not used'}"


def _of_layout(board: Json) -> Iterator[str]:
    taken: set[tuple[int, int]] = set()
    height = 0
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        if taken & cells or at["x"] + at["w"] > 24:
            yield f"layout: {panel['title']} is over another or over the edge"
        taken |= cells
        height = max(height, at["y"] + at["h"])
    if len(taken) != 24 * height:
        yield f"layout: {24 * height - len(taken)} cells are empty"


def _of_panel(panel: Json) -> Iterator[str]:
    if not panel.get("title") or not re.fullmatch(r"[A-Z].{9,}\.", panel.get("description", "")):
        yield "panel-title-description-rule: a title and a sentence"
    settings = panel["fieldConfig"]["defaults"]
    units = [settings.get("unit"), *(value for name, value in _overridden(panel) if name == "unit")]
    if any(unit not in UNITS for unit in units):
        yield f"panel-units-rule: {units}"
    if not settings.get("noValue"):
        yield "panels: nothing is said where there is no data"
    if not panel.get("targets"):
        yield "panel-no-targets-rule: asks for nothing"
    for asked in [panel, *panel.get("targets", ())]:
        source = asked.get("datasource", {})
        if source.get("uid") != f"${{{source.get('type')}_datasource}}":
            yield f"panel-datasource-rule: {source}"
    for target in panel.get("targets", ()):
        yield from _of_expression(target["expr"])


def _overridden(panel: Json) -> Iterator[tuple[str, Any]]:
    for override in panel["fieldConfig"].get("overrides", ()):
        for each in override["properties"]:
            yield each["id"], each["value"]


def _of_expression(expr: str) -> Iterator[str]:
    if any(window != "$__rate_interval" for window in _OF_RANGE.findall(expr)):
        yield f"target-rate-interval-rule: {expr}"
    if len(_COUNTER.findall(expr)) != len(_RATED.findall(expr)) + len(_OVER_JOBS.findall(expr)):
        yield f"target-counter-agg-rule: {expr}"
