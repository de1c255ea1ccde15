"""The largest micro-batch: doubles or halves it, each time in a process of its own, until memory runs out."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tunesmith.api.cluster import ScalingSpec
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.api.quantity import parse_quantity
from tunesmith.sources import Resolver

_POLL_S = 0.05
_SHARE = 0.9
"""Of the memory that is free now, how much is used: others need some too."""


@dataclass(frozen=True)
class Tried:
    """A micro-batch that was tried."""

    size: int
    peak: int | None = None
    """Bytes; None where it did not fit."""
    tokens_per_second: float = 0.0


def find_micro_batch(
    job: FineTuneJob, resolver: Resolver, limit: float | None, tell: Callable[[Tried], None]
) -> list[Tried]:
    """Tries the job's own size, then doubles it up to batchSize while it fits, or halves it until it does.

    Args:
        job: what would be trained.
        resolver: finds models and data.
        limit: bytes that a trial may take of the CPU's memory; None where a GPU runs out by itself.
        tell: is given each trial.

    Returns:
        The trials, by size.

    Raises:
        InputError: the job cannot run at all.
    """
    tried: list[Tried] = []
    largest = -(-job.spec.training.batch_size // job.spec.scaling.workers)
    size = min(job.spec.training.micro_batch_size, largest)
    while True:
        tried.append(_try(job, resolver, size, limit))
        tell(tried[-1])
        fits, first_fits = tried[-1].peak is not None, tried[0].peak is not None
        if fits != first_fits or size == (largest if fits else 1):
            return sorted(tried, key=lambda result: result.size)
        size = min(2 * size, largest) if fits else size // 2


def _try(job: FineTuneJob, resolver: Resolver, size: int, limit: float | None) -> Tried:
    training = job.spec.training.model_copy(update={"micro_batch_size": size, "epochs": None, "max_steps": 2})
    scaling = ScalingSpec(resources=job.spec.scaling.resources)
    spec = job.spec.model_copy(update={"training": training, "scaling": scaling, "search": None})
    changed = job.model_copy(update={"spec": spec}).model_dump(mode="json", exclude={"status"}, exclude_none=True)
    plain = resolver.absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = {
            "job": changed,
            "folder": name,
            "mounts": {claim: str(path) for claim, path in plain.mounts.items()},
            "base": str(plain.base),
            "runs": str(plain.runs),
        }
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        with (folder / "errors").open("wb") as errors:
            command = [sys.executable, "-m", "tunesmith.launch.micro_batch", str(folder / "task.json")]
            process = subprocess.Popen(command, stdout=errors, stderr=errors)
        fits = _watch(process, limit)
        figures = folder / "figures.json"
        if fits and figures.exists():
            return replace(Tried(size), **json.loads(figures.read_text(encoding="utf-8")))
        outcome = folder / "outcome.json"
        if fits and outcome.exists():
            ended = Outcome.model_validate_json(outcome.read_text(encoding="utf-8"))
            if ended.reason != "OutOfMemory":
                raise InputError(Problem(f"a trial ended with {ended.told}"))
        return Tried(size)


def _watch(process: "subprocess.Popen[bytes]", limit: float | None) -> bool:
    """Waits for a trial to end; one that takes more than its share is killed. False where it was."""
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        while process.poll() is None:
            try:
                resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * page
            except (OSError, IndexError):  # it has just ended
                continue
            if limit is not None and resident > limit:
                return False
            time.sleep(_POLL_S)
        return process.returncode == 0
    finally:
        process.kill()
        process.wait()


def memory_limit(job: FineTuneJob) -> float:
    """Bytes of the CPU's memory that a worker may take: what the job says, or what is free here, cgroup included."""
    wanted = job.spec.scaling.resources.memory
    if wanted is not None:
        return float(parse_quantity(wanted))
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    free = float(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            free = min(free, float(most) - float((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no cgroup of version 2
        pass
    return _SHARE * free


def main(file: Path) -> None:
    """A trial, in its own process."""
    from tunesmith.training.assignment import Assignment
    from tunesmith.training.probes import fill_memory
    from tunesmith.training.worker import run_worker

    Path("/proc/self/oom_score_adj").write_text("1000")  # if the kernel must kill something, let it be this
    task = json.loads(file.read_text(encoding="utf-8"))
    folder = Path(task["folder"])
    mounts = {name: Path(path) for name, path in task["mounts"].items()}
    resolver = Resolver(mounts=mounts, base=Path(task["base"]), runs=Path(task["runs"]))
    job = FineTuneJob.model_validate(task["job"])
    probe = partial(fill_memory, file=folder / "figures.json")
    outcome = run_worker(Assignment(job, RunFolder(folder / "run"), resolver, probe=probe))
    (folder / "outcome.json").write_text(outcome.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
