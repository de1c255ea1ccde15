"""A line of `tunesmith top` for each job and pipeline, from its status."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tunesmith.api.gpus import requested_gpus
from tunesmith.api.labels import STAGE_LABEL
from tunesmith.cluster.client import Object
from tunesmith.cluster.kinds import JOBS, Kind

HOLDING = ("Training", "Evaluating")
"""The phases in which a job holds the GPUs that it asks for, as the dashboards count them."""
_PHASES = (
    *HOLDING,
    "PPO",
    "Reward",
    "Supervised",
    "Starting",
    "Queued",
    "Pending",
    "Suspended",
    "Failed",
    "Succeeded",
)
"""In the order of the table: what runs, what waits, what has ended."""


@dataclass(frozen=True)
class Row:
    """What is known of one job or pipeline; None for what is not, or means nothing here."""

    namespace: str
    name: str
    kind: str
    """FineTuneJob or RLHFPipeline."""
    stage: str | None
    """Of a pipeline's job: sft, reward or ppo."""
    phase: str
    created: datetime
    ended: datetime | None
    percentage: int | None
    loss: float | None
    reward: float | None
    tokens_per_second: float | None
    gpus: int | None
    """That it asks for; a pipeline's are counted with its jobs."""
    utilization: float | None
    """Mean share of the time in which its GPUs compute."""
    attempts: int | None
    remaining: float | None
    """Seconds to the end of the training."""

    @property
    def gpus_held(self) -> int:
        return (self.gpus or 0) if self.phase in HOLDING else 0

    @property
    def what(self) -> str:
        """The kind in a short word."""
        return self.stage or ("job" if self.kind == JOBS.name else "pipeline")

    def to_dict(self, now: datetime) -> dict[str, Any]:
        """For -o json."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "kind": self.kind,
            "stage": self.stage,
            "phase": self.phase,
            "percentage": self.percentage,
            "loss": self.loss,
            "reward": self.reward,
            "tokensPerSecond": self.tokens_per_second,
            "gpus": self.gpus,
            "gpuUtilization": self.utilization,
            "attempts": self.attempts,
            "ageSeconds": int((now - self.created).total_seconds()),
            "remainingSeconds": self.remaining,
        }


def row_of(kind: Kind, body: Object) -> Row:
    """The line of a job or pipeline as the API server gives it."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    phase, is_job = status.get("phase") or "Pending", kind is JOBS
    progress: Mapping[str, Any] = (status.get("progress") or {}) if is_job else {}
    ended = status.get("completionTime")
    return Row(
        namespace=meta["namespace"],
        name=meta["name"],
        kind=kind.name,
        stage=(meta.get("labels") or {}).get(STAGE_LABEL) if is_job else None,
        phase=phase,
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        ended=datetime.fromisoformat(ended) if ended else None,
        percentage=progress.get("percentage") if is_job else status.get("percentage"),
        loss=progress.get("loss"),
        reward=progress.get("reward"),
        tokens_per_second=progress.get("tokensPerSecond") if phase == "Training" else None,
        gpus=requested_gpus(spec) if is_job else None,
        utilization=None,
        attempts=len(status.get("attempts") or ()) if is_job else None,
        remaining=progress.get("remainingSeconds") if phase == "Training" else None,
    )


def with_utilization(rows: Iterable[Row], known: Mapping[tuple[str, str], float]) -> list[Row]:
    """The lines of jobs that hold GPUs, with how busy these are, by namespace and name."""
    return [replace(row, utilization=known.get((row.namespace, row.name))) if row.gpus_held else row for row in rows]


def in_state(row: Row) -> tuple[Any, ...]:
    """What runs first, what is nearest its end before the rest; of what has ended the newest."""
    place = _PHASES.index(row.phase) if row.phase in _PHASES else len(_PHASES)
    since = row.ended or row.created
    running = place < _PHASES.index("Starting")
    key = _last_if_none(row.remaining) if running else (0, -since.timestamp())
    return place, *key, row.namespace, row.name


def _last_if_none(value: float | None) -> tuple[int, float]:
    return (1, 0.0) if value is None else (0, value)


def _most(of: Callable[[Row], float | None]) -> Callable[[Row], tuple[Any, ...]]:
    def key(row: Row) -> tuple[Any, ...]:
        value = of(row)
        return (*_last_if_none(None if value is None else -value), *in_state(row))

    return key


SORTS: dict[str, Callable[[Row], tuple[Any, ...]]] = {
    "state": in_state,
    "name": lambda row: (row.namespace, row.name),
    "age": lambda row: (-row.created.timestamp(), row.namespace, row.name),
    "progress": _most(lambda row: row.percentage),
    "tokens": _most(lambda row: row.tokens_per_second),
    "gpus": _most(lambda row: row.gpus_held),
    "utilization": lambda row: (*_last_if_none(row.utilization), *in_state(row)),
    "left": lambda row: (*_last_if_none(row.remaining), *in_state(row)),
}
"""What --sort knows: the newest, the most, the least utilization and the least time left stand first."""


def summary(rows: Iterable[Row]) -> tuple[int, dict[str, int]]:
    """The GPUs held, and how many jobs and pipelines are in which phase, in the order of the table."""
    held, counts = 0, dict.fromkeys(_PHASES, 0)
    for row in rows:
        held += row.gpus_held
        counts[row.phase] = counts.get(row.phase, 0) + 1
    return held, {phase: count for phase, count in counts.items() if count}


def now() -> datetime:
    """The time, as the API server tells it."""
    return datetime.now(UTC)
