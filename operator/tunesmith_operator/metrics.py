"""The operator's own metrics."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tunesmith import __version__
from tunesmith.api.notification import MessageFormat
from tunesmith.api.outcome import Reason
from tunesmith_operator.kinds import OWNERS
from tunesmith_operator.series import BY_NAME
from tunesmith_operator.store import Key

_RUNS = (30, 60, 300, 900, 3600, 3 * 3600, 12 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600)
_MOST_METRICS = 32
"""Of one job; each is two series at most."""


def _counter(name: str) -> Counter:
    declared = BY_NAME[f"tunesmith_operator_{name}_total"]
    return Counter(declared.name, declared.text, declared.labels)


def _gauge(name: str) -> Gauge:
    declared = BY_NAME[f"tunesmith_operator_{name}"]
    return Gauge(declared.name, declared.text, declared.labels)


def _histogram(name: str, buckets: tuple[float, ...] = Histogram.DEFAULT_BUCKETS) -> Histogram:
    declared = BY_NAME[f"tunesmith_operator_{name}"]
    return Histogram(declared.name, declared.text, declared.labels, buckets=buckets)


def gauge_family(name: str) -> GaugeMetricFamily:
    """A declared gauge that a collector fills."""
    declared = BY_NAME[name]
    return GaugeMetricFamily(declared.name, declared.text, labels=declared.labels)


def counter_family(name: str) -> CounterMetricFamily:
    """A declared counter that a collector fills."""
    declared = BY_NAME[name]
    return CounterMetricFamily(declared.name, declared.text, labels=declared.labels)


API_REQUESTS = _counter("api_requests")
RECONCILE_SECONDS = _histogram("reconcile_duration_seconds")
RECONCILES = _counter("reconciles")
QUEUE_DEPTH = _gauge("queue_depth")
QUEUE_WAIT_SECONDS = _histogram("queue_wait_seconds")
ATTEMPT_SECONDS = _histogram("attempt_duration_seconds", _RUNS)
JOB_SECONDS = _histogram("job_duration_seconds", _RUNS)
RETRIES = _counter("retries")
REPAIRS = _counter("watch_repairs")
WATCH_EVENT = _gauge("watch_last_event_timestamp_seconds")
NOTIFICATIONS = _counter("notifications")
RESYNC = _gauge("resync_timestamp_seconds")

# A counter that appears with its first event begins at 1, and an increase does not see that event.
for _reason in get_args(Reason):
    RETRIES.labels(_reason)
    ATTEMPT_SECONDS.labels(_reason)
for _phase in ("Succeeded", "Failed"):
    JOB_SECONDS.labels(_phase)
for _format in get_args(MessageFormat):
    for _result in ("delivered", "retried", "failed"):
        NOTIFICATIONS.labels(_format, _result)
for _kind in OWNERS:
    for _result in ("done", "failed"):
        RECONCILES.labels(_kind.name, _result)
_gauge("info").labels(__version__).set(1)


class Evaluations(Collector):
    """The figures of evaluations when it is asked; they go with their job."""

    def __init__(self, evaluations: Callable[[], Iterable[tuple[Key, Mapping[str, Any]]]]) -> None:
        self._evaluations = evaluations

    def collect(self) -> Iterator[GaugeMetricFamily]:
        values = gauge_family("tunesmith_evaluation")
        for key, evaluation in self._evaluations():
            for metric in evaluation.get("metrics", [])[:_MOST_METRICS]:
                for model in ("tuned", "base"):
                    if model in metric:
                        about = [key.namespace, key.name, key.kind, metric["name"], model]
                        values.add_metric(about, metric[model]["value"])
        yield values


class JobsByPhase(Collector):
    """Counts jobs and pipelines when it is asked."""

    def __init__(self, phases: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._phases = phases

    def collect(self) -> Iterator[GaugeMetricFamily]:
        jobs = gauge_family("tunesmith_operator_jobs")
        for key, number in sorted(Tally(self._phases()).items()):
            jobs.add_metric(key, number)
        yield jobs
