"""A board: its variables, its rows, and the JSON that Grafana reads."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from monitoring.boards.panels import PROMETHEUS, Panel

TAG = "tunesmith"
DOCS = "@docsBase@"
"""The chart puts the address in its place; without one, it leaves these links out."""
JOB_BOARD = "/d/tunesmith-job?${prometheus_datasource:queryparam}&${__url_time_range}"
Variable = build.ConstantVariable | build.DatasourceVariable | build.QueryVariable


@dataclass(frozen=True)
class Row:
    """Panels under a title, from the left, in lines of 24 columns."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False
    """Asks for nothing until somebody opens it."""


def of(
    name: str, title: str, about: str, variables: Sequence[Variable], rows: Sequence[Row], docs: Sequence[str]
) -> str:
    """A board as JSON, the same for the same input.

    Args:
        name: what follows `tunesmith-` in its uid.
        about: its description.
        docs: pages of this repository that help with it, as paths.
    """
    board = build.Dashboard(f"Tunesmith / {title}").uid(f"tunesmith-{name}").description(about).tags([TAG])
    board.readonly().time("now-6h", "now").refresh("1m").tooltip(model.DashboardCursorSync.CROSSHAIR)
    board.timezone("browser").variables([_source(), *variables])
    others = build.DashboardLink("Tunesmith").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True)
    board.link(others.as_dropdown(True))
    for page in docs:
        board.link(build.DashboardLink(page).type(model.DashboardLinkType.LINK).url(f"{DOCS}{page}").target_blank(True))
    for row in rows:
        head = build.Row(row.title).id(_id(row.title))
        for panel in row.panels:
            panel.id(_id(row.title, str(panel.build().title)))
            if row.collapsed:
                head.with_panel(panel)
        board.with_row(head)
        if not row.collapsed:
            for panel in row.panels:
                board.with_panel(panel)
    return json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _id(*titles: str) -> int:
    """The same while the title is, so that links to a panel hold."""
    return zlib.crc32("/".join(titles).encode()) % 1_000_000 + 1


def _source() -> build.DatasourceVariable:
    text = "The Prometheus that scrapes Tunesmith, DCGM's exporter and the nodes."
    return (
        build.DatasourceVariable("prometheus_datasource")
        .label("Prometheus data source")
        .type("prometheus")
        .description(text)
    )


def logs_source() -> build.DatasourceVariable:
    """Only asked when a row of logs is opened: a Grafana without Loki loses nothing else."""
    text = "The Loki that has the pods' logs, if there is one."
    return build.DatasourceVariable("loki_datasource").label("Loki data source").type("loki").description(text)


def choice(
    name: str, label: str, query: str, about: str, *, everything: bool = True, hidden: bool = False
) -> build.QueryVariable:
    """A filter: values that Prometheus knows within the time shown, several at once.

    Args:
        query: label_values(...), as Grafana reads it.
        everything: may be All, and is at first; otherwise the first value is.
        hidden: follows from other filters.
    """
    variable = build.QueryVariable(name).label(label).description(about).datasource(PROMETHEUS)
    variable.query(query).refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable.sort(model.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC).multi(True).include_all(everything)
    if everything:
        variable.all_value(".+").current(model.VariableOption(text=["All"], value=["$__all"], selected=True))
    return variable.hide(model.VariableHide.HIDE_VARIABLE) if hidden else variable


def namespace(series: str = 'tunesmith_job_phase{kind="FineTuneJob"}') -> build.QueryVariable:
    """The filter of every board but the operator's."""
    query = f"label_values({series}, namespace)"
    return choice("namespace", "Namespace", query, "Namespaces that have jobs.")


def constant(name: str, value: str) -> build.ConstantVariable:
    """A value that the chart sets."""
    return build.ConstantVariable(name).value(value)
