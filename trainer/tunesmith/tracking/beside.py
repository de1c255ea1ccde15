"""Tracks a run from a process beside it, so that neither the time nor the failures of a tracker are the run's."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from subprocess import PIPE, Popen, TimeoutExpired
from threading import Thread
from typing import IO

from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.api.tracking import TrackingSpec

log = logging.getLogger(__name__)

FLUSH_S = 30.0
"""How long the process may go on sending when the run has ended."""
_EXIT_S = 10.0
"""And how long it may take to end itself after that."""


@contextmanager
def tracked(job: FineTuneJob, folder: RunFolder, tell: Callable[[str], None]) -> Iterator[Callable[[Outcome], None]]:
    """Sends a run to the trackers of spec.tracking while it runs; at the end waits until all is sent, or FLUSH_S.

    Args:
        job: the job.
        folder: of its run, held by the caller.
        tell: is given sentences for people.

    Yields:
        Takes how the run ended, once its report is written. If it is never called, the run was killed.

    Raises:
        InputError: a tracker's library is not installed.
    """
    if job.spec.tracking is None:
        yield lambda outcome: None
        return
    _require(job.spec.tracking)
    try:
        process = _start(folder)
    except OSError as error:
        tell(f"the run cannot be tracked: {error}; `tunesmith track {folder.root}` does it later")
        yield lambda outcome: None
        return
    assert process.stdout is not None
    reader = Thread(target=_pass_on, args=(process.stdout, tell), name="tracking", daemon=True)
    reader.start()
    outcomes: list[Outcome] = []
    try:
        yield outcomes.append
    finally:
        _end(process, outcomes, tell, folder)
        reader.join()
        process.stdout.close()


def _start(folder: RunFolder) -> Popen[str]:
    folder.logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tunesmith.cli.main", "track", str(folder.root), "--follow"]
    with (folder.logs / "tracking.log").open("a") as errors:
        # a session of its own: what stops the run at the terminal is not for this process
        return Popen(command, stdin=PIPE, stdout=PIPE, stderr=errors, text=True, start_new_session=True)


def _require(tracking: TrackingSpec) -> None:
    for name in ("mlflow", "tensorboard", "wandb"):
        if getattr(tracking, name) is not None and find_spec(name) is None:
            message = f"{name} is not installed here: pip install 'tunesmith[tracking]', or drop this tracker"
            raise InputError(Problem(message, f"spec.tracking.{name}"))


def _pass_on(lines: IO[str], tell: Callable[[str], None]) -> None:
    for line in lines:
        tell(line.rstrip())


def _end(process: Popen[str], outcomes: list[Outcome], tell: Callable[[str], None], folder: RunFolder) -> None:
    """Lets the process know how the run ended, and waits for it."""
    assert process.stdin is not None
    try:
        if outcomes:
            process.stdin.write(outcomes[-1].model_dump_json(exclude_none=True) + "\n")
        process.stdin.close()
    except OSError:  # it has ended already
        log.debug("tracking ended before the run", exc_info=True)
    try:
        code = process.wait(FLUSH_S + _EXIT_S)
    except TimeoutExpired:
        process.kill()
        code = process.wait()
    if code not in (0, 1):  # 1: it has told itself what is missing
        tell(f"tracking failed, see {folder.logs / 'tracking.log'}; `tunesmith track {folder.root}` does it later")
