"""Workers that share the rows of an evaluation, over Ray: a share of rows that fails is tried again by another one."""

import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tunesmith.api.job import FineTuneJob, FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Outcome, Reason
from tunesmith.api.pod import RunFolder, Tracing
from tunesmith.api.spans import TRAINER, about_run, sending_spans, tracing_here
from tunesmith.evaluation.work import Here, Keep, RowsFailedError, Source, Work
from tunesmith.launch.workers import join_ray
from tunesmith.run_log import log_in_pod
from tunesmith.sources import Resolver
from tunesmith.training.assignment import worker_threads
from tunesmith.training.failures import outcome_of

log = logging.getLogger(__name__)

_TRIES = 3
"""How often a single row is tried, each time by another worker."""
_LOST_AT_START = 3
"""So many workers may end before they have started, beyond one each."""
_BATCHES = 4
"""Batches in a share, at most: rows that wait for a place in a batch make it fast, and a lost worker loses a share."""
_SCORING_CPUS = 0.1
"""What the scoring takes of a worker's CPUs on a cluster: it must run on one, since the head has little memory."""
_FATAL: tuple[Reason, ...] = ("InvalidInput", "LossDiverged", "StorageFull")
"""What would be the same with any worker."""


@dataclass(frozen=True)
class _Share:
    """Items that one worker does."""

    items: list[int]
    size: int
    """At once."""
    failures: int = 0


class _Worker:
    """What runs in a worker's process."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._here = Here()

    def ready(self) -> None:
        """Returns once the process has started."""

    def do(self, source: Source, work: Work, share: _Share) -> tuple[dict[int, Any], int] | dict[str, Any]:
        """The outputs of a share and how many at once worked, or an Outcome that says why there are none."""
        found: dict[int, Any] = {}
        try:
            return found, self._here.do(source, replace(work, size=share.size), share.items, found.update)
        except Exception as error:  # as an Outcome it comes through whole
            return outcome_of(error, 1).to_dict()


class Workers:
    """A crew of Ray actors, each with a model of its own.

    Args:
        count: how many.
        threads: CPU threads of each.
        cpus: what each takes of Ray's CPUs.
        gpus: what each takes of Ray's GPUs.
    """

    def __init__(self, count: int, threads: int, cpus: float, gpus: int) -> None:
        import ray

        self._ray: Any = ray
        self._count, self._threads = count, threads
        options: dict[str, Any] = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
        }
        self._actor = self._ray.remote(**options)(_Worker)
        self._busy: dict[Any, tuple[Any, _Share | None]] = {}
        """What is awaited: workers with their shares, or those that are starting."""
        self._idle: list[Any] = []
        self._lost_at_start = 0

    @classmethod
    def here(cls, spec: FineTuneJobSpec, count: int) -> "Workers":
        """Workers on this machine.

        Raises:
            InputError: it has fewer GPUs.
        """
        gpus = torch.cuda.device_count()
        if 0 < gpus < count:
            message = f"asks for {count} workers with a GPU each, but this machine has {gpus}; lower it"
            raise InputError(Problem(message, "spec.evaluation.workers"))
        scaling = spec.scaling.model_copy(update={"workers": count})
        threads = worker_threads(spec.model_copy(update={"scaling": scaling}))
        join_ray(None, threads * count)
        return cls(count, threads, threads, 1 if gpus else 0)

    @classmethod
    def of_cluster(cls, spec: FineTuneJobSpec, count: int) -> "Workers":
        """One in each pod of the Ray cluster that this process runs in."""
        return cls(count, worker_threads(spec), 1 - _SCORING_CPUS, 0 if spec.scaling.resources.gpu is None else 1)

    def do(self, source: Source, work: Work, items: Sequence[int], keep: Keep) -> int:
        """Does items; see `Crew`.

        Raises:
            RowsFailedError: some rows fail wherever they are tried.
        """
        shares = deque(_cut(items, work.size, self._count))
        size, given = work.size, (self._ray.put(source), self._ray.put(work))
        while len(self._busy) + len(self._idle) < min(self._count, len(shares)):
            self._start_one()
        while shares or any(share for _, share in self._busy.values()):
            while self._idle and shares:
                worker, share = self._idle.pop(), shares.popleft()
                self._busy[worker.do.remote(*given, share)] = worker, share
            done = self._ray.wait(list(self._busy), num_returns=1)[0][0]
            worker, mine = self._busy.pop(done)
            result = self._result(done)
            if isinstance(result, Outcome):
                self._ray.kill(worker)
                self._start_one()
                shares.extendleft(self._after_failure(work, mine, result))
                continue
            self._idle.append(worker)
            if mine is not None:
                found, worked = result
                size = min(size, worked)
                keep(found)
        return size

    def _start_one(self) -> None:
        worker = self._actor.remote(self._threads)
        self._busy[worker.ready.remote()] = worker, None

    def _result(self, done: Any) -> Any:
        """What a worker gives; an Outcome where it failed."""
        try:
            result = self._ray.get(done)
        except Exception as error:  # whatever Ray makes of a lost process, pod or node
            log.warning("a worker was lost: %s", str(error).strip().splitlines()[0])
            return Outcome(reason="WorkerLost", message="the worker ended, as it does where memory runs out")
        return Outcome.model_validate(result) if isinstance(result, dict) else result

    def _after_failure(self, work: Work, share: _Share | None, why: Outcome) -> list[_Share]:
        """What is to be done of a share that failed: the whole once more, fewer rows at once; then each half.

        Raises:
            RowsFailedError: it was one row, tried often enough; or trying again cannot help.
        """
        if share is None:
            self._lost_at_start += 1
            if self._lost_at_start >= self._count + _LOST_AT_START:
                raise RowsFailedError("WorkerLost", "workers end before they have started; see their logs")
            return []
        if why.reason in _FATAL:
            raise RowsFailedError(why.reason, why.message)
        rows = [work.row(item) for item in share.items]
        failures, size = share.failures + 1, max(1, share.size // 2)
        if len(rows) == 1 and failures >= _TRIES:
            raise RowsFailedError(why.reason, f"row {rows[0]} fails with every worker that tries it: {why.message}")
        log.warning("rows %s are tried again: %s", f"{rows[0]}..." if len(rows) > 1 else rows[0], why.message)
        if len(rows) == 1 or failures < 2:
            return [replace(share, size=size, failures=failures)]
        middle = len(rows) // 2
        return [_Share(part, size, 1) for part in (share.items[middle:], share.items[:middle])]

    def release(self) -> None:
        """Workers keep their model until they get another, or are ended."""

    def close(self) -> None:
        """Ends the workers."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            self._ray.kill(worker)
        self._idle, self._busy = [], {}


def _cut(items: Sequence[int], size: int, workers: int) -> list[_Share]:
    """Shares of whole batches, so that a batch holds the same rows whatever the number of workers."""
    batches = max(1, min(_BATCHES, math.ceil(len(items) / size) // (2 * workers)))
    step = batches * size
    return [_Share(list(items[start : start + step]), size) for start in range(0, len(items), step)]


def evaluate_on_cluster(
    job: FineTuneJob, folder: RunFolder, resolver: Resolver, attempt: int, metric_modules: Sequence[str]
) -> Outcome:
    """Evaluates on the Ray cluster that this process runs in. The scoring runs on a worker; where that one is lost,
    another one goes on with what is there.

    Args:
        job, folder, resolver, attempt, metric_modules: as for `evaluate_job`; the folder is one that all pods mount.
    """
    import ray

    join_ray("auto", 0)
    score: Any = ray.remote(num_cpus=_SCORING_CPUS, max_retries=_TRIES)(_evaluate_with_workers)
    try:
        left = score.remote(job.to_dict(), str(folder.root), resolver, attempt, metric_modules, tracing_here())
        return Outcome.model_validate(ray.get(left))
    except ray.exceptions.RayError as error:
        message = str(error).strip().splitlines()[0]
        return Outcome(reason="WorkerLost", message=f"the worker that scored was lost: {message}", attempt=attempt)


def _evaluate_with_workers(
    job: dict[str, Any],
    folder: str,
    resolver: Resolver,
    attempt: int,
    metric_modules: Sequence[str],
    tracing: Tracing | None,
) -> dict[str, Any]:
    from pathlib import Path

    from tunesmith.evaluation.progress import log_tenths
    from tunesmith.evaluation.run import evaluate_job

    parsed = FineTuneJob.model_validate(job)
    log_in_pod(parsed.metadata.namespace, parsed.metadata.name, attempt)
    assert parsed.spec.evaluation is not None
    crew = Workers.of_cluster(parsed.spec, parsed.spec.evaluation.workers)
    run = RunFolder(Path(folder))
    with sending_spans(tracing, TRAINER, about_run(parsed.metadata.namespace, parsed.metadata.name, attempt)):
        return evaluate_job(parsed, run, resolver, log_tenths(), attempt, crew, metric_modules).to_dict()
