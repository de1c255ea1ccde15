"""Metrics of jobs and pipelines, from their status: they outlive the pods, and go some time after the job's end."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from tunesmith.api.gpus import requested_gpus
from tunesmith_operator.kinds import JOBS
from tunesmith_operator.metrics import counter_family, gauge_family
from tunesmith_operator.names import STAGE_LABEL
from tunesmith_operator.observed import Object, Pod, RayJob
from tunesmith_operator.series import SERIES
from tunesmith_operator.store import controller

_GAUGES = [s.name for s in SERIES if s.name.startswith("tunesmith_job_") and s.kind == "gauge"]
_OF_POD, _OF_STAGE = "tunesmith_job_pod_info", "tunesmith_job_stage_info"


class JobMetrics(Collector):
    """Reads all jobs and pipelines when it is asked."""

    def __init__(
        self,
        owners: Callable[[], Iterable[Object]],
        ray_jobs: Callable[[str], Mapping[str, RayJob]],
        pods: Callable[[str], Mapping[str, Pod]],
        clock: Callable[[], datetime],
        kept_seconds: float,
    ) -> None:
        """
        Args:
            owners: gives all jobs and pipelines.
            ray_jobs: gives a job's RayJobs by name, from its uid.
            pods: gives a job's pods by name, likewise.
            clock: gives the time.
            kept_seconds: how long after its end a job is still shown.
        """
        self._owners, self._ray_jobs, self._pods, self._clock = owners, ray_jobs, pods, clock
        self._kept = timedelta(seconds=kept_seconds)
        self._highest: dict[str, float] = {}

    def collect(self) -> Iterator[Metric]:
        families = {name: gauge_family(name) for name in _GAUGES}
        gpu_seconds = counter_family("tunesmith_job_gpu_seconds_total")
        now, held = self._clock(), {}
        for body in self._owners():
            status = body.get("status") or {}
            ended = _time(status.get("completionTime"))
            if ended is not None and now - ended > self._kept:
                continue
            meta = body["metadata"]
            place = [meta["namespace"], meta["name"], body["kind"]]
            for name, label, value in _values(body, status, ended):
                families[f"tunesmith_job_{name}"].add_metric([*place, *label], value)
            if body["kind"] == JOBS.name:  # what a pipeline holds is counted with its jobs
                seconds = requested_gpus(body["spec"]) * _held_seconds(status, self._ray_jobs(meta["uid"]), now)
                # an attempt's final figure is rounded; a counter that falls would look like one that began anew
                held[meta["uid"]] = max(seconds, self._highest.get(meta["uid"], 0.0))
                gpu_seconds.add_metric(place, held[meta["uid"]])
                for pod in self._pods(meta["uid"]).values():
                    if not pod.over:
                        families[_OF_POD].add_metric([place[0], pod.meta.name, place[1], pod.component], 1)
                if (stage := meta.get("labels", {}).get(STAGE_LABEL)) is not None:
                    families[_OF_STAGE].add_metric([*place[:2], controller(body).get("name", ""), stage], 1)
        self._highest = held
        yield from (*families.values(), gpu_seconds)


def _values(
    body: Object, status: Mapping[str, Any], ended: datetime | None
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Name, the label beside those of every job, and value."""
    yield "phase", (status.get("phase", "Pending"),), 1
    if (started := _time(status.get("startTime"))) is not None:
        yield "start_timestamp_seconds", (), started.timestamp()
    if ended is not None:
        yield "end_timestamp_seconds", (), ended.timestamp()
    for condition in status.get("conditions", ()):
        if condition["type"] == "Failed" and condition["status"] == "True":
            yield "failure", (condition["reason"],), 1
    if "percentage" in status:  # a pipeline's, over its stages
        yield "progress_ratio", (), status["percentage"] / 100
    if (progress := status.get("progress")) is not None:
        yield "progress_ratio", (), progress.get("percentage", 0) / 100
        for name, field in (("steps", "step"), ("steps_planned", "totalSteps")):
            if field in progress:
                yield name, (), progress[field]
        if "remainingSeconds" in progress and status.get("phase") == "Training":
            yield "remaining_seconds", (), progress["remainingSeconds"]
    if body["kind"] == JOBS.name:
        yield "attempts", (), len(status.get("attempts", ()))
        yield "requested_gpus", (), requested_gpus(body["spec"])


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
