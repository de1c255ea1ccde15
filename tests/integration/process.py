"""Programs that run beside the tests and never outlive them (Linux)."""

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # loaded here, because little is safe to do between fork and exec


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on; all differ, as they are held until all are known."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A running program whose output goes to a file."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self._name = Path(command[0]).name
        self._log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C in a terminal reaches the tests alone, which then stop this in order
                preexec_fn=_die_with_parent,
            )

    def wait_until(self, ready: Callable[[], object], seconds: float = 60) -> None:
        """Waits for a true answer.

        Raises:
            RuntimeError: the program ended before, or the time is over; with the end of its log.
        """
        end = time.monotonic() + seconds
        while not ready():
            if (code := self._child.poll()) is not None:
                raise RuntimeError(f"{self._name} ended with {code}; {self._tail()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{self._name} was not ready after {seconds:g} s; {self._tail()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it at once: all that it keeps is thrown away, so there is nothing to be polite about."""
        self._child.kill()
        self._child.wait()

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-20:]
        return "\n".join([f"the end of {self._log}:", *lines])


@contextmanager
def running(command: Sequence[str | Path], log: Path) -> Iterator[Process]:
    """Runs the program inside the context.

    The kernel kills it when the thread that started it ends, however that happens: use it from the main thread.
    """
    process = Process(command, log)
    try:
        yield process
    finally:
        process.kill()
