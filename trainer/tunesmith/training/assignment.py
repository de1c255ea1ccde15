"""What a worker is told; apart from the rest, so that what only starts workers need not load what these need."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunesmith.api.job import FineTuneJob, FineTuneJobSpec
from tunesmith.api.outcome import Outcome, Overrides
from tunesmith.api.pod import RunFolder, Tracing
from tunesmith.api.quantity import parse_quantity
from tunesmith.sources import Resolver

if TYPE_CHECKING:
    from tunesmith.training.checkpoint import Position
    from tunesmith.training.loop import Trainer


@dataclass(frozen=True)
class Assignment:
    """What a worker is told."""

    job: FineTuneJob
    folder: RunFolder
    resolver: Resolver
    attempt: int = 1
    overrides: Overrides = field(default_factory=Overrides)
    metrics_port: int | None = None
    """Where to serve /metrics and /progress; nowhere by default."""
    json_logs: bool = False
    """Whether the process logs JSON lines, as in a pod; the run's folder has text in any case."""
    tracing: Tracing | None = None
    """Where its spans go."""
    probe: "Callable[[Trainer, Position], Outcome] | None" = None
    """What to do, with everything in place, instead of training."""


def worker_threads(spec: FineTuneJobSpec) -> int:
    """CPU threads of a worker: what it asks for; by default its share of this machine."""
    cpu = spec.scaling.resources.cpu
    available = len(os.sched_getaffinity(0))
    wanted = int(parse_quantity(cpu)) if cpu is not None else available // spec.scaling.workers
    return max(1, min(wanted, available))
