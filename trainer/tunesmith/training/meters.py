"""The trainer's declared metrics as prometheus-client's objects."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

from tunesmith.api.series import Series
from tunesmith.training.series import SERIES

_BY_NAME = {series.name: series for series in SERIES}
_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
"""Seconds of a step."""


class Meters:
    """Gauges appear with their first value: one that says 0 before would be taken for one. Counters start at 0."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which none reads
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._made: dict[str, Any] = {}
        for series in SERIES:
            if series.kind == "counter":
                self._made[series.name] = Counter(series.name, series.text, series.labels, registry=self.registry)
            elif series.kind == "histogram":
                self._made[series.name] = Histogram(
                    series.name, series.text, series.labels, registry=self.registry, buckets=_BUCKETS
                )

    def set(self, name: str, value: float, *labels: str) -> None:
        """Sets a gauge."""
        gauge = self._gauge(_BY_NAME[name])
        (gauge.labels(*labels) if labels else gauge).set(value)

    def read(self, name: str, value: Callable[[], float]) -> None:
        """Has a gauge ask for its value when it is scraped."""
        self._gauge(_BY_NAME[name]).set_function(value)

    def add(self, name: str, amount: float, *labels: str) -> None:
        """Raises a counter."""
        counter = self._made[name]
        (counter.labels(*labels) if labels else counter).inc(amount)

    def observe(self, name: str, value: float) -> None:
        """Adds a value to a histogram."""
        self._made[name].observe(value)

    def _gauge(self, series: Series) -> Any:
        if series.name not in self._made:
            self._made[series.name] = Gauge(series.name, series.text, series.labels, registry=self.registry)
        return self._made[series.name]
