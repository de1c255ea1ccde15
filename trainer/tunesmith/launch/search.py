"""`spec.search`: trains a job with several values of some fields through Ray Tune, and keeps the best model.

Ray Tune starts the trials, bounds how many run at once, and stops those that lag behind (ASHA). What is drawn and what
is known of each trial is kept here: a trial is an ordinary run in trials/NNN, and trials.json says which have ended. So
a search that was killed goes on: ended trials only show Tune the curve that they left, others resume from their
checkpoints.
"""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.api.job import FineTuneJob
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import METRICS_PORT, RunFolder
from tunesmith.data.parts import RunRows
from tunesmith.evaluation.ahead import check_test_rows
from tunesmith.launch.book import Book
from tunesmith.launch.folder import read_result, write_result
from tunesmith.launch.run import in_thread, stop_on_signals
from tunesmith.launch.trial_plot import plot_trials
from tunesmith.launch.trials import best_trial, trial_folder
from tunesmith.launch.workers import Placement, anywhere, join_ray
from tunesmith.sources import Resolver
from tunesmith.training.assignment import Assignment, worker_threads
from tunesmith.training.failures import outcome_of

_LOST_TRIAL_RESTARTS = 1
"""How often a trial whose process died is started again, from its last checkpoint."""
_NO_LIMIT = 10**9
"""Tune ends a trial at so many steps; a run knows its end itself."""


def search_here(job: FineTuneJob, folder: RunFolder, resolver: Resolver, tell: Callable[[str], None]) -> Outcome:
    """Runs a job's search on this machine.

    Args:
        job: with spec.search.
        folder: the run's folder, open.
        resolver: finds models and data.
        tell: is given a sentence for each trial that has ended.
    """
    placement = Placement.here(job.spec)
    with stop_on_signals(folder):
        return in_thread(lambda: run_search(Assignment(job, folder, resolver), placement, tell))


def run_search(assignment: Assignment, placement: Placement, tell: Callable[[str], None]) -> Outcome:
    """Runs all trials that have not ended yet, and makes the best one's model the run's."""
    assignment = anywhere(assignment)
    book = Book(assignment, tell)
    try:
        if book.left:
            check_test_rows(RunRows(assignment.job.spec, assignment.resolver))  # trials are not evaluated
            _tune(assignment, placement, book)
        outcome = _conclude(assignment, book)
    except Exception as error:  # a Ray that does not start, a full disk; the trials are as they were
        outcome = outcome_of(error, assignment.attempt)
    write_result(assignment.folder, outcome)
    return outcome


def _tune(assignment: Assignment, placement: Placement, book: Book) -> None:
    """Runs the trials through Ray Tune."""
    for name in ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "TUNE_DISABLE_SIGINT_HANDLER"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    search = book.spec.search
    assert search is not None
    workers, concurrency = book.spec.scaling.workers, search.concurrency
    here = placement.address is None
    threads = worker_threads(book.spec) if not here else max(1, worker_threads(book.spec) // concurrency)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is told by trial, in a line
    join_ray(placement.address, workers * concurrency * threads)
    import ray
    from ray import tune
    from ray.tune.schedulers import AsyncHyperBandScheduler

    from tunesmith.launch.trial import TrialProcess
    from tunesmith.launch.tune_parts import Notes, Numbers, Until

    if not here:  # a worker takes a whole pod, so that no two trials share one's memory
        pods = _pod_cpus()
        concurrency = max(1, min(concurrency, len(pods) // workers))
        placement = replace(placement, worker_cpus=min(pods, default=1))
    scheduler = None
    if search.asha is not None:
        scheduler = AsyncHyperBandScheduler(
            time_attr="step",
            max_t=_NO_LIMIT,
            grace_period=search.asha.grace_steps,
            reduction_factor=search.asha.reduction_factor,
        )
    task = replace(assignment, metrics_port=METRICS_PORT if not here and concurrency == 1 else None)
    process: Any = tune.with_parameters(TrialProcess, task=task, placement=placement, threads=threads if here else None)
    tuner = tune.Tuner(
        tune.with_resources(process, trial_resources(placement, threads)),
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            search_alg=Numbers(book, skip_ended=scheduler is None),
            scheduler=scheduler,
            num_samples=book.count,
            max_concurrent_trials=concurrency,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(assignment.folder.root / ".ray"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=_LOST_TRIAL_RESTARTS),
            stop=Until(book),
            callbacks=[Notes(book)],
        ),
    )
    shutil.rmtree(assignment.folder.root / ".ray" / "search", ignore_errors=True)
    try:
        tuner.fit()
    finally:
        if here:
            ray.shutdown()  # what it leaves to the end of the process complains there


def trial_resources(placement: Placement, threads: int) -> dict[str, float]:
    """What a trial's own process takes; with several workers these are processes of their own."""
    import torch

    if not placement.own_process:
        return {"memory": 1}  # a byte: Tune refuses a trial that takes nothing, and the CPUs are all for the workers
    return {"CPU": threads, "GPU": 1} if torch.cuda.is_available() else {"CPU": threads}


def _pod_cpus() -> list[int]:
    """The CPUs of each node of the Ray cluster that takes work."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    return [count for count in cpus if count > 0]


def _conclude(assignment: Assignment, book: Book) -> Outcome:
    """How the search ended; its best trial's model and figures become the run's."""
    run, attempt = assignment.folder, assignment.attempt
    if book.fatal is not None:
        return book.fatal
    done = book.count - book.left
    if book.left:
        message = f"stopped on request after {done} of {book.count} trials; run again to go on from there"
        return Outcome(reason="Interrupted", message=message, attempt=attempt)
    plot_trials(run, book.trials)
    best = best_trial(book.trials)
    if best is None:
        reason, times = Counter(trial.ended or "" for trial in book.trials).most_common(1)[0]
        first = next(trial for trial in book.trials if trial.ended == reason)
        message = f"all {book.count} trials failed, {times} of them like trial {first.number}: {first.message}"
        return Outcome.model_validate({"reason": reason, "message": message, "attempt": attempt})
    folder = trial_folder(run, best.number)
    theirs = read_result(folder.result) or Outcome(reason="Succeeded")
    for source, target in ((folder.tokenizer, run.tokenizer), (folder.adapter, run.adapter), (folder.model, run.model)):
        _move(source, target)
    for source, target in ((folder.metrics, run.metrics), (folder.data, run.data)):
        shutil.copyfile(source, target)
    return theirs.model_copy(
        update={
            "message": f"trial {best.number} of {book.count} is the best: {best.description}",
            "attempt": attempt,
            "artifacts": theirs.artifacts.model_copy(
                update={
                    "folder": str(run.root),
                    "model": str(run.model),
                    "adapter": str(run.adapter) if run.adapter.exists() else None,
                }
            ),
        }
    )


def _move(source: Path, target: Path) -> None:
    """Moves a folder; one that is not there was moved before the search was interrupted, or never was."""
    if source.exists():
        shutil.rmtree(target, ignore_errors=True)
        source.rename(target)
