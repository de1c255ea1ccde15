"""Turns what can go wrong into an Outcome with a named reason and a remedy."""

import errno
import logging

import torch

from tunesmith.api.load import InputError
from tunesmith.api.outcome import Outcome, Reason
from tunesmith.run_log import masked

log = logging.getLogger(__name__)

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
_PEER_GONE = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "read timeout",
    "timed out waiting",
    "socket closed",
)


MESSAGES: dict[Reason, str] = {
    "OutOfMemory": "out of memory: lower training.microBatchSize, or set training.gradientCheckpointing",
    "StorageFull": "no space is left for the run's folder, its last checkpoint is intact: free some space",
    "WorkerLost": "another worker went away",
}
"""What is said where there is nothing more to tell."""


class LossDivergedError(Exception):
    """The loss or its gradient is not finite."""


class PolicyCollapsedError(Exception):
    """A policy has strayed too far from the model that it started from."""


class StopRequestedError(Exception):
    """Somebody asked the run to stop; its state is saved."""


def outcome_of(error: BaseException, attempt: int) -> Outcome:
    """How a run ended that an exception ended."""
    if isinstance(error, InputError):
        return Outcome(reason="InvalidInput", message=str(error), attempt=attempt)
    if isinstance(error, LossDivergedError):
        return Outcome(reason="LossDiverged", message=str(error), attempt=attempt)
    if isinstance(error, PolicyCollapsedError):
        return Outcome(reason="PolicyCollapsed", message=str(error), attempt=attempt)
    if isinstance(error, StopRequestedError):
        return Outcome(reason="Interrupted", message=str(error), attempt=attempt)
    if is_out_of_memory(error):
        return Outcome(reason="OutOfMemory", message=MESSAGES["OutOfMemory"], attempt=attempt)
    if is_full_disk(error):
        return Outcome(reason="StorageFull", message=MESSAGES["StorageFull"], attempt=attempt)
    if isinstance(error, RuntimeError) and any(part in str(error).lower() for part in _PEER_GONE):
        return Outcome(reason="WorkerLost", message=MESSAGES["WorkerLost"], attempt=attempt)
    log.error("unexpected failure", exc_info=error)
    reason = str(error).strip().splitlines()
    message = masked(f"{type(error).__name__}: {reason[0] if reason else ''}".rstrip(": "))  # it leaves the pod
    return Outcome(reason="InternalError", message=message, attempt=attempt)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error).lower() for part in _OUT_OF_MEMORY)


def is_full_disk(error: BaseException) -> bool:
    """Whether a write failed for want of space; safetensors and torch wrap the system's error in their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "no space left on device" in str(error).lower() or "disk quota exceeded" in str(error).lower()
