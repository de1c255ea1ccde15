"""A run's folder: whose it is, whether it is in use, and whether it may be gone on with."""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from pydantic import TypeAdapter

from tunesmith.api.identity import differing_fields, identity_fields, identity_hash
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Outcome, Overrides, PastAttempt
from tunesmith.api.pod import RunFolder
from tunesmith.whole_files import write_whole

_VERSIONS = ("tunesmith", "torch", "transformers", "accelerate", "peft", "bitsandbytes", "deepspeed", "ray")
_ATTEMPTS = TypeAdapter(list[PastAttempt])


class FolderInUseError(InputError):
    """Another run holds the folder."""


@contextmanager
def open_folder(folder: RunFolder, job: FineTuneJob, fresh: bool = False, patience_s: float = 0.0) -> Iterator[None]:
    """Holds a run's folder for one run at a time.

    Args:
        folder: made where it is missing.
        job: what is to run in it.
        fresh: moves an earlier run aside instead of going on with it.
        patience_s: seconds to wait for another run to leave the folder.

    Raises:
        FolderInUseError: another run is using the folder.
        InputError: it cannot be written, or belongs to another job that has begun; names the fields that differ.
    """
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        lock = folder.lock.open("a")
    except OSError as error:
        raise InputError(Problem(f"cannot be written: {error.strerror}", file=str(folder.root))) from None
    with lock:
        if not locked(lock, patience_s):
            message = "is in use by another run; wait for it, or choose another --output"
            raise FolderInUseError(Problem(message, file=str(folder.root)))
        if fresh:
            _move_aside(folder)
        _claim(folder, job)
        folder.stop_request.unlink(missing_ok=True)
        yield


def locked(lock: TextIO, patience_s: float) -> bool:
    """Locks a file until it is closed; False where another process has it for longer than `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(0.2)


def _claim(folder: RunFolder, job: FineTuneJob) -> None:
    fields = identity_fields(job.spec)
    if folder.config.exists():
        try:
            earlier = json.loads(folder.config.read_text(encoding="utf-8"))["fields"]
        except (ValueError, KeyError, TypeError):
            raise InputError(Problem("is damaged; start over with --fresh", file=str(folder.config))) from None
        differing = differing_fields(fields, earlier)
        if differing and not _has_begun(folder):
            _clear(folder)
        elif differing:
            listing = ", ".join(differing)
            message = (
                f"holds a run of another job: {listing} differ; start over with --fresh, or choose another --output"
            )
            raise InputError(Problem(message, file=str(folder.root)))
    config = {
        "identity": identity_hash(job.spec),
        "fields": fields,
        "job": job.model_dump(mode="json", exclude={"status"}, exclude_none=True),
        "versions": {name: version(name) for name in _VERSIONS},
    }
    try:
        write_whole(folder.config, json.dumps(config, indent=1))
    except OSError as error:
        raise InputError(Problem(f"cannot be written: {error.strerror}", file=str(folder.config))) from None


def _has_begun(folder: RunFolder) -> bool:
    """Whether there is anything to lose: a step was taken, or an evaluation begun."""
    kept = (folder.checkpoints, folder.metrics, folder.model, folder.adapter, folder.trials, folder.evaluation)
    return any(path.exists() for path in kept)


def _clear(folder: RunFolder) -> None:
    """Removes what a run has left that was refused before its first step, so that its corrected file just runs."""
    for path in set(vars(folder).values()) - {folder.root, folder.lock, folder.tracking_lock}:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def has_succeeded(folder: RunFolder, job: FineTuneJob) -> bool:
    """Whether the folder holds the model of this very job, as the run that made it ended."""
    outcome = read_result(folder.result)
    if outcome is None or outcome.reason != "Succeeded" or not folder.model.exists():
        return False
    try:
        earlier = json.loads(folder.config.read_text(encoding="utf-8"))["fields"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return not differing_fields(identity_fields(job.spec), earlier)


def _move_aside(folder: RunFolder) -> None:
    """Nothing is lost: what an earlier run left goes to a folder beside."""
    old = [path for path in folder.root.iterdir() if path != folder.lock]
    if not old:
        return
    target = folder.root.with_name(f"{folder.root.name}-before-{datetime.now():%Y%m%d-%H%M%S}")
    target.mkdir()
    for path in old:
        shutil.move(path, target / path.name)


def write_result(folder: RunFolder, outcome: Outcome) -> None:
    """Leaves how a run ended in result.json."""
    write_outcome(folder.result, outcome)


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Leaves an outcome, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, outcome.model_dump_json(indent=1, exclude_none=True))


def end_attempt(
    folder: RunFolder, past: Sequence[PastAttempt], outcome: Outcome, overrides: Overrides
) -> list[PastAttempt]:
    """Leaves how an attempt ended in result.json, and in attempts.json after those before it; returns all of these."""
    write_result(folder, outcome)
    ended = PastAttempt(number=outcome.attempt, reason=outcome.reason, message=outcome.message, overrides=overrides)
    attempts = [*past, ended]
    write_attempts(folder, attempts)
    return attempts


def write_attempts(folder: RunFolder, attempts: Sequence[PastAttempt]) -> None:
    """Leaves the attempts that are over in attempts.json, the oldest first."""
    write_whole(folder.attempts, _ATTEMPTS.dump_json(list(attempts), indent=1, by_alias=True).decode())


def read_attempts(folder: RunFolder) -> list[PastAttempt]:
    """The attempts that are over; none where they cannot be read."""
    try:
        return _ATTEMPTS.validate_json(folder.attempts.read_bytes())
    except (OSError, ValueError):
        return []


def read_result(path: Path) -> Outcome | None:
    """The outcome in a result.json; None where there is none that can be read."""
    try:
        return Outcome.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
