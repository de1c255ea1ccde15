"""A real Prometheus, and what can be asked of it (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.tools.build import build

from ..process import Process, free_ports, running

Labels = Mapping[str, str]
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class QueryError(Exception):
    """Prometheus does not understand, or cannot compute, a query."""


@dataclass(frozen=True)
class Found:
    """A series of an answer: moments in Unix time, and values."""

    labels: Labels
    samples: Sequence[tuple[float, float]]

    @property
    def figures(self) -> list[float]:
        """The values that can be drawn."""
        return [value for _, value in self.samples if math.isfinite(value)]


class Prometheus:
    """Scrapes what it is told to from now on."""

    def __init__(self, process: Process, config: Path, url: str) -> None:
        self._process, self._config, self.url = process, config, url

    def scrape(self, jobs: Sequence[Mapping[str, Any]], rules: Sequence[Path] = ()) -> None:
        """Scrapes these from now on, and nothing else."""
        whole = {
            "global": {"evaluation_interval": "1s"},
            "scrape_configs": list(jobs),
            "rule_files": [str(file) for file in rules],
        }
        text = yaml.safe_dump(whole, width=10_000)
        if not self._config.exists() or self._config.read_text() != text:
            self._config.write_text(text)
            self._post("/-/reload")

    def now(self, expr: str, time: float) -> list[Found]:
        """The answer at a moment."""
        return _found(self._ask("query", query=expr, time=str(time)))

    def over(self, expr: str, start: float, end: float, step: float) -> list[Found]:
        """The answer between two moments."""
        return _found(self._ask("query_range", query=expr, start=str(start), end=str(end), step=str(step)))

    def values(self, label: str, series: str) -> list[str]:
        """The values of a label, of all series that match."""
        return [str(value) for value in self._ask(f"label/{label}/values", **({"match[]": series} if series else {}))]

    def selectors(self, expr: str) -> list[Mapping[str, Any]]:
        """The series that an expression reads, as nodes of its syntax tree: name, matchers, offset."""
        found: list[Mapping[str, Any]] = []
        _collect(self._ask("parse_query", query=expr), found)
        return found

    def rules(self) -> list[Mapping[str, Any]]:
        """All rules, with their health and what is firing."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[Mapping[str, Any]]:
        """What is scraped now, with its health."""
        return list(self._ask("targets", state="active")["activeTargets"])

    def _ask(self, path: str, **query: str) -> Any:
        with_body = path in ("query", "query_range", "parse_query")
        text = urlencode(query)
        url = f"{self.url}/api/v1/{path}" + ("" if with_body else f"?{text}")
        try:
            with _OPENER.open(url, data=text.encode() if with_body else None, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            with refused:
                raise QueryError(f"{json.load(refused)['error']} in {query}") from None

    def _post(self, path: str) -> None:
        with _OPENER.open(urllib.request.Request(f"{self.url}{path}", method="POST"), timeout=30) as answer:
            answer.read()


def _found(answer: Any) -> list[Found]:
    if answer["resultType"] == "scalar":
        return [Found({}, [_sample(answer["result"])])]
    return [
        Found(each["metric"], [_sample(pair) for pair in each.get("values", [each.get("value")])])
        for each in answer["result"]
    ]


def _sample(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


def _collect(node: Any, found: list[Mapping[str, Any]]) -> None:
    if isinstance(node, dict):
        if node.get("type") in ("vectorSelector", "matrixSelector"):
            found.append(node)
        for part in node.values():
            _collect(part, found)
    elif isinstance(node, list):
        for part in node:
            _collect(part, found)


@contextmanager
def running_prometheus(folder: Path) -> Iterator[Prometheus]:
    """Runs Prometheus with nothing to scrape."""
    (port,) = free_ports(1)
    config = folder / "prometheus.yaml"
    config.write_text("{}\n")
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [
        build("prometheus")["prometheus"],
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle",
        "--scrape.discovery-reload-interval=500ms",  # instead of 5 s
    ]
    with running(command, folder / "prometheus.log") as process:
        process.wait_until(lambda: _ready(url))
        yield Prometheus(process, config, url)


def _ready(url: str) -> bool:
    try:
        with _OPENER.open(f"{url}/-/ready", timeout=5):
            return True
    except OSError:
        return False
