"""Starts the workers of an attempt through Ray Train, and gathers how they ended."""

import json
import logging
import os
from dataclasses import dataclass
from typing import Any

import torch

from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.training.worker import Assignment, run_worker, worker_threads

log = logging.getLogger(__name__)

LOST_WORKER_RESTARTS = 3
"""How often Ray Train starts the workers of one attempt again, from the last checkpoint, after one was lost."""

_PRECEDENCE = ("InvalidInput", "OutOfMemory", "LossDiverged", "StorageFull", "InternalError", "Interrupted", "WorkerLost")
"""Which of several workers' outcomes explains the others: one that failed takes its peers along."""


@dataclass(frozen=True)
class Placement:
    """Where workers run."""

    own_process: bool
    """One worker, in this process (Ray Train's local mode)."""
    address: str | None = None
    """A Ray cluster to join; a new one on this machine where there is none."""


def run_attempt(assignment: Assignment, placement: Placement) -> Outcome:
    """Runs all workers of an attempt to their end."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    for name in ("ray.train", "ray.tune", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for note in assignment.folder.root.glob(".outcome-*.json"):
        note.unlink()
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    scaling = assignment.job.spec.scaling
    if placement.own_process:
        workers = ScalingConfig(num_workers=0)
    else:
        workers = ScalingConfig(
            num_workers=scaling.workers,
            use_gpu=torch.cuda.is_available() or scaling.resources.gpu is not None,
            resources_per_worker=_resources(assignment, placement),
        )
        if not ray.is_initialized():
            cpus = None if placement.address else max(len(os.sched_getaffinity(0)), scaling.workers)
            ray.init(address=placement.address, num_cpus=cpus, include_dashboard=None if placement.address else False, logging_level=logging.ERROR)
    trainer = TorchTrainer(
        _start_worker,
        train_loop_config={"assignment": assignment},
        scaling_config=workers,
        run_config=RunConfig(
            name=f"attempt-{assignment.attempt}",
            storage_path=str((assignment.folder.root / ".ray").resolve()),
            failure_config=FailureConfig(max_failures=LOST_WORKER_RESTARTS),
        ),
    )
    try:
        outcomes = [Outcome.model_validate(trainer.fit().return_value)]
    except TrainingFailedError as error:
        log.error("Ray Train gave up: %s", error)
        reason = "OutOfMemory" if "OutOfMemory" in str(error) else "WorkerLost"
        outcomes = [Outcome.model_validate({"reason": reason, "message": _first_line(error), "attempt": assignment.attempt})]
    outcomes += _notes(assignment.folder, assignment.attempt)
    failed = [outcome for outcome in outcomes if outcome.reason != "Succeeded"]
    return min(failed, key=lambda outcome: _PRECEDENCE.index(outcome.reason)) if failed else outcomes[0]


def _start_worker(config: dict[str, Any]) -> dict[str, Any]:
    return run_worker(config["assignment"]).to_dict()


def _resources(assignment: Assignment, placement: Placement) -> dict[str, float]:
    cpus = 1 if placement.address else worker_threads(assignment.job.spec)
    return {"CPU": float(cpus)}


def _notes(folder: RunFolder, attempt: int) -> list[Outcome]:
    return [Outcome.model_validate(json.loads(p.read_text())) for p in folder.root.glob(f".outcome-{attempt}-*.json")]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
