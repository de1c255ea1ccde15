"""`tunesmith track`: sends a run's folder to the trackers of spec.tracking; for people afterwards, and beside a run."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread, Timer
from typing import TYPE_CHECKING

from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.cli.evaluate import job_of
from tunesmith.launch.folder import locked, read_result

if TYPE_CHECKING:
    from tunesmith.tracking.follow import Follower

_ENVIRONMENT = {
    # neither library is to tell its makers of its use or of its errors
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    # a server that does not answer is tried again by us, with everything that has come since
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # we say where the run is
    "GIT_PYTHON_REFRESH": "quiet",  # an image has no git
}
"""What the libraries are told; who sets these variables is obeyed."""
_PREDECESSOR_PATIENCE_S = 60.0
"""How long the process of an earlier attempt may still be sending."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="the run's folder, such as runs/NAME")
    parser.add_argument("--follow", action="store_true", help=argparse.SUPPRESS)  # what a run starts
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Sends what the trackers do not have yet.

    With --follow goes on until standard input ends, whose last line is the Outcome as JSON, unless the run was killed.

    Returns:
        0 where everything was sent.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    folder = RunFolder(arguments.folder)
    job = job_of(folder)
    if job.spec.tracking is None:
        message = "is not set: add it to the job's file, and give that to `tunesmith run` again"
        raise InputError(Problem(message, "spec.tracking", file=str(folder.config)))
    from tunesmith.tracking.follow import Follower

    with _alone(folder):
        follower = Follower(job, folder, _tell)
        if arguments.follow:
            return _follow(follower, folder)
        return 0 if follower.end(read_result(folder.result)) else 1


def _follow(follower: "Follower", folder: RunFolder) -> int:
    from tunesmith.tracking.beside import FLUSH_S

    os.nice(5)  # the run comes first
    ended, lines = Event(), list[str]()

    def listen() -> None:
        lines.extend(sys.stdin)
        ended.set()

    Thread(target=listen, daemon=True, name="standard input").start()
    follower.follow(ended)
    limit = Timer(FLUSH_S, _give_up, [follower, folder])
    limit.daemon = True
    limit.start()
    outcome = Outcome.model_validate_json(lines[-1]) if lines else None
    return 0 if follower.end(outcome) else 1


def _give_up(follower: "Follower", folder: RunFolder) -> None:
    """Ends a process that a library does not let go."""
    _tell(f"not all could be sent in time; `tunesmith track {folder.root}` does it later")
    os._exit(1)


def _tell(text: str) -> None:
    print(text, flush=True)


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """One process at a time sends a run.

    Raises:
        InputError: another one does, and does not come to its end.
    """
    with folder.tracking_lock.open("a") as lock:
        if not locked(lock, _PREDECESSOR_PATIENCE_S):
            message = "is being sent by another process already; wait for the end of the run"
            raise InputError(Problem(message, file=str(folder.root)))
        yield
