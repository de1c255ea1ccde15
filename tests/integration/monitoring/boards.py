"""Boards as Grafana reads them: panels, their queries, and variables whose values Prometheus knows."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..kube import Objects
from .prometheus import Prometheus

_LABEL_VALUES = re.compile(r"label_values\((?:(?P<series>.+),\s*)?(?P<label>\w+)\)")
_REFERENCE = re.compile(r"\$([A-Za-z_]\w*)|\$\{(\w+)(?::\w+)?\}|\[\[(\w+)(?::\w+)?\]\]")  # not $1 of label_replace
_ALL = "$__all"


@dataclass(frozen=True)
class Query:
    """A query of a panel, as it is written."""

    expr: str
    legend: str
    instant: bool
    ref: str


@dataclass(frozen=True)
class Panel:
    """A panel of a board; not a row."""

    board: str
    title: str
    kind: str
    queries: Sequence[Query]
    body: Mapping[str, Any]
    """All that Grafana is told."""

    def __str__(self) -> str:
        return f"{self.board}: {self.title}"


@dataclass(frozen=True)
class Board:
    """A dashboard."""

    title: str
    body: Mapping[str, Any]

    def panels(self) -> Iterator[Panel]:
        """All panels that ask Prometheus, those of closed rows included."""
        yield from self._panels(self.body["panels"])

    def _panels(self, bodies: Sequence[Mapping[str, Any]]) -> Iterator[Panel]:
        for body in bodies:
            if body["type"] == "row":
                yield from self._panels(body.get("panels", []))
            elif queries := [_query(target) for target in body.get("targets", []) if _asks_prometheus(body, target)]:
                yield Panel(self.title, body["title"], body["type"], queries, body)

    def values(self, prometheus: Prometheus, chosen: Mapping[str, str] | None = None) -> dict[str, str]:
        """The value of each variable as it stands in a query: the board's default, unless it is chosen."""
        values: dict[str, str] = dict(chosen or {})
        for variable in self.body["templating"]["list"]:
            if variable["name"] not in values and variable["type"] != "datasource":
                values[variable["name"]] = _value(variable, values, prometheus)
        return values


def boards_of(objects: Objects) -> list[Board]:
    """The boards of a release, from the ConfigMaps that Grafana's sidecar looks for."""
    maps = [
        each for each in objects if each["kind"] == "ConfigMap" and "grafana_dashboard" in each["metadata"]["labels"]
    ]
    bodies = [json.loads(text) for each in maps for text in each["data"].values()]
    return [Board(body["title"], body) for body in bodies]


def filled(expr: str, values: Mapping[str, str]) -> str:
    """A query with the values of its variables.

    Raises:
        KeyError: there is no variable of a name that it uses.
    """
    return _REFERENCE.sub(lambda found: values[next(filter(None, found.groups()))], expr)


def _asks_prometheus(panel: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    source = target.get("datasource") or panel.get("datasource") or {}
    return bool(source.get("type") == "prometheus")


def _query(target: Mapping[str, Any]) -> Query:
    instant = bool(target.get("instant")) and not target.get("range")
    return Query(target["expr"], target.get("legendFormat", ""), instant, target["refId"])


def _value(variable: Mapping[str, Any], values: Mapping[str, str], prometheus: Prometheus) -> str:
    if variable["type"] != "query":
        return str(variable["current"]["value"] if "current" in variable else variable["query"])
    query = variable["query"]
    found = _LABEL_VALUES.fullmatch(query if isinstance(query, str) else query["query"])
    assert found, f"variable {variable['name']} is no label_values(): {query}"
    known = prometheus.values(found["label"], filled(found["series"] or "", values))
    assert known, f"variable {variable['name']} has no value: {query}"
    current = variable.get("current", {}).get("value")
    if variable.get("includeAll") and (current is None or _ALL in current):
        return str(variable["allValue"]) if variable.get("allValue") else "|".join(known)
    return "|".join(known) if variable.get("multi") else known[0]
