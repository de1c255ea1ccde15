"""Runs the real entry points in processes of their own, forked from one that has imported everything already."""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunesmith.api.job import FineTuneJob
from tunesmith.api.outcome import Outcome, Overrides
from tunesmith.api.pod import RunFolder

Plant = Callable[[], None]
"""Called in each process before it starts; a function of a module, or a partial of one."""

_PRELOAD = ["tests.model.plants", "tunesmith.launch.workers", "ray.train.torch", "peft", "bitsandbytes", "datasets"]
_ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default Ray's workers wait for all else, here for the tests of the other process
    # as the command line sets them, which comes too late where everything is imported already
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_PATIENCE = timedelta(seconds=120)


def context() -> Any:
    """Where processes are forked from."""
    os.environ |= _ENVIRONMENT
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(_PRELOAD)
    return forks


def train(
    job: FineTuneJob,
    folder: RunFolder,
    workers: int = 1,
    plant: Plant | None = None,
    overrides: Overrides | None = None,
) -> list[Outcome]:
    """Runs `run_worker` in as many processes as there are workers, and returns the outcome of each."""
    from tunesmith.launch.folder import open_folder
    from tunesmith.sources import Resolver
    from tunesmith.training.assignment import Assignment

    assignment = Assignment(job, folder, Resolver(), overrides=overrides or Overrides())
    with (
        TemporaryDirectory() as meeting,
        open_folder(folder, job),
        ProcessPoolExecutor(workers, mp_context=context()) as pool,
    ):
        tasks = [pool.submit(_work, rank, workers, f"{meeting}/store", assignment, plant) for rank in range(workers)]
        return [task.result() for task in tasks]


def _work(rank: int, workers: int, store: str, assignment: Any, plant: Plant | None) -> Outcome:
    import torch.distributed as dist

    from tunesmith.training.worker import run_worker

    gc.freeze()  # what is imported stays, and need not be looked through
    if workers > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"WORLD_SIZE": str(workers), "LOCAL_WORLD_SIZE": str(workers)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # asked for, but the workers meet in a file
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=workers, timeout=_PATIENCE)
    if plant is not None:
        plant()
    try:
        return run_worker(assignment)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    """Its exit code; the negative number of the signal that killed it."""
    output: str
    errors: str


def tunesmith(*arguments: str, folder: Path, plant: Plant | None = None) -> Ended:
    """Runs the command line in `folder` to its end."""
    process = context().Process(target=_command, args=(arguments, folder, plant))
    process.start()
    process.join(_PATIENCE.total_seconds())
    assert process.exitcode is not None, f"tunesmith {' '.join(arguments)} does not end"
    return Ended(process.exitcode, (folder / "stdout").read_text(), (folder / "stderr").read_text())


def _command(arguments: tuple[str, ...], folder: Path, plant: Plant | None) -> None:
    from tunesmith.cli.main import main

    gc.freeze()
    os.chdir(folder)
    for stream, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(d), "w", buffering=1) for d in (1, 2))
    if plant is not None:
        plant()
    sys.exit(main(arguments))
