"""Which outcome an exception becomes."""

import errno
import logging

import pytest
import torch
from safetensors import SafetensorError

from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Reason
from tunesmith.training.failures import LossDivergedError, StopRequestedError, outcome_of

CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
PEER = "[gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:1234"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError(Problem("is wrong", "spec.model")), "InvalidInput"),
        (LossDivergedError("nan"), "LossDiverged"),
        (StopRequestedError("stopped"), "Interrupted"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), "OutOfMemory"),
        (MemoryError(), "OutOfMemory"),
        (RuntimeError(CPU), "OutOfMemory"),
        (OSError(errno.ENOSPC, "No space left on device"), "StorageFull"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "StorageFull"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "StorageFull"),
        (RuntimeError(PEER), "WorkerLost"),
        (OSError(errno.EACCES, "Permission denied"), "InternalError"),
        (KeyError("x"), "InternalError"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "InternalError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_failures_are_named(error: Exception, reason: Reason) -> None:
    outcome = outcome_of(error, attempt=3)
    assert (outcome.reason, outcome.attempt) == (reason, 3)
    assert outcome.message
    assert "\n" not in outcome.message


def test_a_defect_is_told_in_a_line_and_logged_whole(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        outcome = outcome_of(ValueError("first line\nsecond line"), attempt=1)
    assert outcome.message == "ValueError: first line"
    assert "second line" in caplog.text


def test_several_problems_are_all_told() -> None:
    outcome = outcome_of(InputError(Problem("is wrong", "a"), Problem("is missing", "b")), attempt=1)
    assert outcome.message == "a: is wrong\nb: is missing"
