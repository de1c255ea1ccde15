"""The operator's own metrics."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tunesmith_operator.store import Key

_RUNS = (30, 60, 300, 900, 3600, 3 * 3600, 12 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600)

API_REQUESTS = Counter("tunesmith_operator_api_requests", "Requests to the API server.", ["verb", "code"])
RECONCILE_SECONDS = Histogram(
    "tunesmith_operator_reconcile_duration_seconds", "Time to look after one job or pipeline once.", ["kind"]
)
RECONCILES = Counter(
    "tunesmith_operator_reconciles", "Looks after a job or pipeline; one that failed is repeated.", ["kind", "result"]
)
QUEUE_DEPTH = Gauge("tunesmith_operator_queue_depth", "Jobs that wait to be looked after.")
QUEUE_WAIT_SECONDS = Histogram("tunesmith_operator_queue_wait_seconds", "Time that a job waits to be looked after.")
ATTEMPT_SECONDS = Histogram(
    "tunesmith_operator_attempt_duration_seconds",
    "Time that attempts ran, by how they ended.",
    ["reason"],
    buckets=_RUNS,
)
JOB_SECONDS = Histogram(
    "tunesmith_operator_job_duration_seconds",
    "Time from the first attempt to the end of a job.",
    ["phase"],
    buckets=_RUNS,
)
RETRIES = Counter("tunesmith_operator_retries", "Attempts that follow a failed one, by how that ended.", ["reason"])
REPAIRS = Counter("tunesmith_operator_watch_repairs", "Objects that the watches had missed, found by the resync.")


WATCH_EVENT = Gauge(
    "tunesmith_operator_watch_last_event_timestamp_seconds", "When a watch last brought something.", ["kind"]
)
RESYNC = Gauge(
    "tunesmith_operator_resync_timestamp_seconds", "When the watches were last compared with the API server."
)

_MOST_METRICS = 32
"""Of one job; each is two series at most."""


class Evaluations(Collector):
    """The figures of evaluations when it is asked; they go with their job."""

    def __init__(self, evaluations: Callable[[], Iterable[tuple[Key, Mapping[str, Any]]]]) -> None:
        self._evaluations = evaluations

    def collect(self) -> Iterator[GaugeMetricFamily]:
        labels = ["namespace", "name", "kind", "metric", "model"]
        text = "What an evaluation measured, of the evaluated model and of the one that training started from."
        values = GaugeMetricFamily("tunesmith_evaluation", text, labels=labels)
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
        text = "FineTuneJobs and RLHFPipelines by phase."
        jobs = GaugeMetricFamily("tunesmith_operator_jobs", text, labels=["kind", "phase"])
        for key, number in sorted(Tally(self._phases()).items()):
            jobs.add_metric(key, number)
        yield jobs
