"""Runs a job's training to its end on this machine: attempts, and what follows a failed one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from types import FrameType

from tunesmith.api.job import FineTuneJob
from tunesmith.api.outcome import Outcome, next_attempt
from tunesmith.api.pod import RunFolder
from tunesmith.api.spans import span
from tunesmith.launch.folder import end_attempt, read_attempts
from tunesmith.launch.workers import Placement, run_attempt
from tunesmith.sources import Resolver
from tunesmith.training.assignment import Assignment

_WORTH_RETRYING = ("OutOfMemory", "LossDiverged", "WorkerLost")
"""Where somebody looks on, a defect is shown at once, and an interruption was meant."""


def train_here(job: FineTuneJob, folder: RunFolder, resolver: Resolver, tell: Callable[[str], None]) -> Outcome:
    """Trains, and tries again as the operator would: a smaller micro-batch after an out-of-memory failure, a lower rate
    after the loss diverged, each from the last checkpoint.

    Args:
        job: what to run.
        folder: the run's folder, open.
        resolver: finds models and data.
        tell: is given a sentence before each further attempt.
    """
    assignment = Assignment(job, folder, resolver)
    placement = Placement.here(job.spec)
    with stop_on_signals(folder):
        return in_thread(lambda: run_attempts(assignment, placement, tell))


def run_attempts(
    assignment: Assignment,
    placement: Placement,
    tell: Callable[[str], None],
    worth_retrying: tuple[str, ...] = _WORTH_RETRYING,
) -> Outcome:
    """Attempts, until one succeeds or nothing is left to try.

    Args:
        assignment: the first attempt; where the folder knows of earlier ones, it is counted on from these.
        placement: where its workers run.
        tell: is given a sentence before each further attempt.
        worth_retrying: the reasons after which another attempt is made.
    """
    spec, failures, past = assignment.job.spec, 0, read_attempts(assignment.folder)
    if past:
        assignment = replace(assignment, attempt=past[-1].number + 1)
    while True:
        with span("attempt", {"tunesmith.attempt": assignment.attempt}) as note:
            outcome = run_attempt(assignment, placement)
            note({"tunesmith.reason": outcome.reason})
        past = end_attempt(assignment.folder, past, outcome, assignment.overrides)
        retry = next_attempt(outcome.reason, assignment.overrides, spec.training.micro_batch_size)
        if retry is None or outcome.reason not in worth_retrying or failures >= spec.backoff_limit:
            return outcome
        failures += 1
        assignment = replace(assignment, overrides=retry.overrides, attempt=assignment.attempt + 1)
        tell(f"{outcome.told}; attempt {assignment.attempt}: {retry.explanation}")


def in_thread(work: Callable[[], Outcome]) -> Outcome:
    """Runs work beside the main thread, which stays free for signals: Ray Train would take SIGINT for itself there."""
    results: list[Outcome] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # handed to the caller, below
            errors.append(error)

    thread = threading.Thread(target=copy_context().run, args=(body,), name="training")
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def stop_on_signals(folder: RunFolder) -> Iterator[None]:
    """Turns SIGTERM and SIGINT into a request to save at the next step; a second one ends the process at once."""

    def handle(number: int, _frame: FrameType | None) -> None:
        if folder.stop_request.exists():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        folder.stop_request.touch()

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
