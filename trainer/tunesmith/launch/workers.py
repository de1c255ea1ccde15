"""Starts the workers of an attempt through Ray Train, and gathers how they ended."""

import json
import logging
import os
import traceback
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.api.spans import tracing_here
from tunesmith.run_log import last_tail
from tunesmith.training.assignment import Assignment, worker_threads

log = logging.getLogger(__name__)

LOST_WORKER_RESTARTS = 3
"""How often Ray Train starts the workers of one attempt again, from the last checkpoint, after one was lost."""

_PRECEDENCE = (
    "InvalidInput",
    "OutOfMemory",
    "LossDiverged",
    "PolicyCollapsed",
    "StorageFull",
    "InternalError",
    "Interrupted",
    "WorkerLost",
    "OutcomeUnknown",
)
"""Which of several workers' outcomes explains the others: one that failed takes its peers along."""
_TOGETHER = ("Succeeded", "Interrupted", "LossDiverged", "PolicyCollapsed", "WorkerLost")
"""How all workers end at the same step, or those that outlive another one; after anything else the others wait in a
collective operation for a worker that does not come, until its process ends."""


class WorkerFailedError(Exception):
    """A worker has noted in the run's folder how it failed."""


@dataclass(frozen=True)
class Placement:
    """Where workers run."""

    own_process: bool
    """One worker, in this process (Ray Train's local mode)."""
    address: str | None = None
    """A Ray cluster to join; a new one on this machine where there is none."""
    worker_cpus: int | None = None
    """What a worker takes of Ray's CPUs; by default 1 on a cluster, where a pod is a worker whatever its size, and its
    threads here."""

    @classmethod
    def here(cls, spec: FineTuneJobSpec) -> "Placement":
        """On this machine; a single worker in this process, unless it takes DeepSpeed (to offload, say), which asks for
        a process group."""
        return cls(own_process=spec.scaling.workers == 1 and spec.scaling.deepspeed is None)


def run_attempt(assignment: Assignment, placement: Placement) -> Outcome:
    """Runs all workers of an attempt to their end."""
    assignment = anywhere(assignment)
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    for name in ("ray.train", "ray.tune", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for note in assignment.folder.root.glob(".outcome-*.json"):
        note.unlink()
    from ray.train import FailureConfig, RunConfig, UserCallback
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    class GiveUp(UserCallback):
        """Ends the attempt where a worker has failed, and would again; Ray Train by itself starts all workers anew."""

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            if _failed_alone(assignment):
                raise WorkerFailedError("a worker has failed, as told above")

    start: Any = _start_worker  # Ray's annotation does not know yet that a worker may return a value
    callbacks: list[Any] = [GiveUp()]  # nor this kind of callback
    trainer = TorchTrainer(
        start,
        train_loop_config={"assignment": assignment},
        scaling_config=_scaling(assignment, placement),
        run_config=RunConfig(
            name=f"attempt-{assignment.attempt}",
            storage_path=str(assignment.folder.root / ".ray"),
            failure_config=FailureConfig(max_failures=LOST_WORKER_RESTARTS),
            callbacks=callbacks,
        ),
    )
    try:
        result: Any = trainer.fit()
        outcomes = [Outcome.model_validate(result.return_value)]
    except TrainingFailedError as error:
        outcomes = []
        if not _failed_alone(assignment):
            log.error("Ray Train gave up: %s", error)
            lost = why_given_up(error, assignment.attempt)
            outcomes = [lost.model_copy(update={"log_tail": last_tail(assignment.folder)})]
    return outcome_of_all(outcomes + _notes(assignment))


def outcome_of_all(outcomes: list[Outcome]) -> Outcome:
    """Of several workers' outcomes the one that explains the others."""
    failed = [outcome for outcome in outcomes if outcome.reason != "Succeeded"]
    return min(failed, key=lambda outcome: _PRECEDENCE.index(outcome.reason)) if failed else outcomes[0]


def anywhere(assignment: Assignment) -> Assignment:
    """The assignment as other processes can have it: Ray starts workers in a working directory of its own."""
    folder, tracing = RunFolder(assignment.folder.root.absolute()), tracing_here() or assignment.tracing
    return replace(assignment, folder=folder, resolver=assignment.resolver.absolute(), tracing=tracing)


def _start_worker(config: dict[str, Any]) -> dict[str, Any]:
    from tunesmith.training.worker import run_worker  # what it loads is the workers' alone

    assignment: Assignment = config["assignment"]
    outcome = run_worker(assignment)
    if outcome.reason not in _TOGETHER and assignment.job.spec.scaling.workers > 1:
        raise WorkerFailedError("this worker has failed, as told above")  # Ray Train then ends the others
    return outcome.to_dict()


def _scaling(assignment: Assignment, placement: Placement) -> Any:
    """What Ray Train is asked for; joins or starts a Ray cluster where workers are processes of their own."""
    import torch
    from ray.train import ScalingConfig

    if placement.own_process:
        return ScalingConfig(num_workers=0)
    spec = assignment.job.spec
    joins = placement.address is not None
    join_ray(placement.address, spec.scaling.workers)
    return ScalingConfig(
        num_workers=spec.scaling.workers,
        use_gpu=torch.cuda.is_available() or spec.scaling.resources.gpu is not None,
        resources_per_worker={"CPU": placement.worker_cpus or (1 if joins else worker_threads(spec))},
    )


def join_ray(address: str | None, cpus: int) -> None:
    """Joins a Ray cluster, or starts one on this machine that has at least so many CPUs to give."""
    import ray

    joins = address is not None
    if not ray.is_initialized():
        ray.init(
            address=address or "local",  # not one that somebody else has started here
            num_cpus=None if joins else max(len(os.sched_getaffinity(0)), cpus),
            include_dashboard=None if joins else False,
            logging_level=logging.ERROR,
            log_to_driver=joins,  # here the run's folder has the workers' logs
        )


def _notes(assignment: Assignment) -> list[Outcome]:
    notes = assignment.folder.root.glob(f".outcome-{assignment.attempt}-*.json")
    return [Outcome.model_validate(json.loads(note.read_text())) for note in notes]


def _failed_alone(assignment: Assignment) -> bool:
    return any(outcome.reason not in _TOGETHER for outcome in _notes(assignment))


def why_given_up(error: Exception, attempt: int) -> Outcome:
    """What Ray Train's last error comes from; Ray ends processes of a node that runs out of memory."""
    told = "".join(traceback.format_exception(error))
    if "OutOfMemory" in told or "running low on memory" in told:
        message = "Ray ended a worker because its pod ran out of memory: raise scaling.resources.memory, or lower "
        message += "training.microBatchSize"
        return Outcome(reason="OutOfMemory", message=message, attempt=attempt)
    return Outcome(reason="WorkerLost", message=str(error).strip().splitlines()[0], attempt=attempt)
