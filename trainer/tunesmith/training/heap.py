"""What is freed goes back to the system where much of it is free at once."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Has the C library return the blocks that it keeps, which can be as large as all activations of a step: what comes
    next needs blocks of other sizes, and would come on top. Nothing where the library cannot (it is glibc's)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
