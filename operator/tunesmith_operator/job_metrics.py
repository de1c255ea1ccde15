"""Metrics of jobs and pipelines, from their status: they outlive the pods, and go some time after the job's end."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tunesmith_operator.kinds import JOBS
from tunesmith_operator.observed import Object, RayJob

_LABELS = ("namespace", "name", "kind")
_GPU = "nvidia.com/gpu"

_GAUGES = {
    "phase": "1 for the phase that the job is in.",
    "start_timestamp_seconds": "When the first attempt was created.",
    "end_timestamp_seconds": "When the job succeeded or failed.",
    "attempts": "Attempts so far, the running one included.",
    "progress_ratio": "Finished share of the optimizer steps; of a pipeline, of its stages.",
    "requested_gpus": "GPUs of all workers, whether they are held now or not.",
}
_GPU_SECONDS = "The requested GPUs times the seconds that attempts have run, queueing excluded."


class JobMetrics(Collector):
    """Reads all jobs and pipelines when it is asked."""

    def __init__(
        self,
        owners: Callable[[], Iterable[Object]],
        ray_jobs: Callable[[str], Mapping[str, RayJob]],
        clock: Callable[[], datetime],
        kept_seconds: float,
    ) -> None:
        """
        Args:
            owners: gives all jobs and pipelines.
            ray_jobs: gives a job's RayJobs by name, from its uid.
            clock: gives the time.
            kept_seconds: how long after its end a job is still shown.
        """
        self._owners, self._ray_jobs, self._clock = owners, ray_jobs, clock
        self._kept = timedelta(seconds=kept_seconds)
        self._highest: dict[str, float] = {}

    def collect(self) -> Iterator[Metric]:
        families = {
            name: GaugeMetricFamily(f"tunesmith_job_{name}", text, labels=_labels(name))
            for name, text in _GAUGES.items()
        }
        gpu_seconds = CounterMetricFamily("tunesmith_job_gpu_seconds", _GPU_SECONDS, labels=_LABELS)
        now, held = self._clock(), {}
        for body in self._owners():
            status = body.get("status") or {}
            ended = _time(status.get("completionTime"))
            if ended is not None and now - ended > self._kept:
                continue
            meta = body["metadata"]
            place = [meta["namespace"], meta["name"], body["kind"]]
            families["phase"].add_metric([*place, status.get("phase", "Pending")], 1)
            for name, value in _values(body, status, ended):
                families[name].add_metric(place, value)
            if body["kind"] == JOBS.name:  # what a pipeline holds is counted with its jobs
                seconds = _gpus(body["spec"]) * _held_seconds(status, self._ray_jobs(meta["uid"]), now)
                # an attempt's final figure is rounded; a counter that falls would look like one that began anew
                held[meta["uid"]] = max(seconds, self._highest.get(meta["uid"], 0.0))
                gpu_seconds.add_metric(place, held[meta["uid"]])
        self._highest = held
        yield from (*families.values(), gpu_seconds)


def _labels(name: str) -> tuple[str, ...]:
    return (*_LABELS, "phase") if name == "phase" else _LABELS


def _values(body: Object, status: Mapping[str, Any], ended: datetime | None) -> Iterator[tuple[str, float]]:
    if (started := _time(status.get("startTime"))) is not None:
        yield "start_timestamp_seconds", started.timestamp()
    if ended is not None:
        yield "end_timestamp_seconds", ended.timestamp()
    if (progress := status.get("progress")) is not None:
        yield "progress_ratio", progress.get("percentage", 0) / 100
    if body["kind"] == JOBS.name:
        yield "attempts", len(status.get("attempts", ()))
        yield "requested_gpus", _gpus(body["spec"])


def _gpus(spec: Mapping[str, Any]) -> int:
    scaling = spec.get("scaling", {})
    return int(scaling.get("resources", {}).get(_GPU, 0)) * int(scaling.get("workers", 1))


def _held_seconds(status: Mapping[str, Any], ray_jobs: Mapping[str, RayJob], now: datetime) -> float:
    """How long attempts have run, queueing excluded."""
    attempts = status.get("attempts", ())
    past = float(sum(attempt.get("activeSeconds", 0) for attempt in attempts))
    if not attempts or attempts[-1].get("endTime"):
        return past
    ray_job = ray_jobs.get(attempts[-1]["rayJob"])
    if ray_job is None or ray_job.suspended or ray_job.started is None:
        return past
    began = max(datetime.fromisoformat(attempts[-1]["startTime"]), ray_job.started)
    return past + max(0.0, (now - began).total_seconds())


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
