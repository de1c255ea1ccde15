"""The commands run as a user runs them: here where they end by themselves, else as processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tunesmith.cli.main import main

from ..controlplane import ControlPlane
from ..kube import eventually
from ..operator.conftest import operator, proxy, ray  # noqa: F401 - fixtures
from .gateway import Gateway

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def gateway(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Gateway]:
    """The command line's way to the API server."""
    with Gateway(control_plane, tmp_path) as gateway:
        yield gateway


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(gateway: Gateway, namespace: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; gives its exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        if "-A" not in arguments and "-n" not in arguments:
            arguments = (*arguments, "-n", namespace)
        if "--kubeconfig" not in arguments:
            arguments = (*arguments, "--kubeconfig", str(gateway.kubeconfig()))
        capsys.readouterr()
        code = main(arguments)
        return code, *capsys.readouterr()

    return run


class Running:
    """A command that runs beside the test."""

    def __init__(self, arguments: list[str], folder: Path, terminal: bool) -> None:
        path = os.pathsep.join(str(ROOT / part) for part in ("trainer", "operator"))
        environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "130", "LINES": "24", "TERM": "xterm"}
        self._out, self._err = folder / "out", folder / "err"
        command = [sys.executable, "-m", "tunesmith.cli.main", *arguments]
        if terminal:  # of util-linux: gives the program a terminal, and writes down what it shows there
            command = ["script", "--quiet", "--return", "--command", " ".join(command), "/dev/null"]
            command = ["env", "--default-signal=INT", *command]  # what a shell starts in the background ignores Ctrl-C
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment, text=True
            )

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def shows(self, text: str, since: int = 0) -> None:
        """Waits until it has printed a text."""

        def there() -> bool:
            return text in self.out[since:]

        try:
            eventually(there, text, 60)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in: {self.out[since:]}\n{self.err}") from None

    def press_ctrl_c(self) -> None:
        keys: IO[str] | None = self._process.stdin
        assert keys is not None
        keys.write("\x03")
        keys.flush()

    def end(self) -> int:
        """Waits for its end; gives the exit code."""
        return self._process.wait(60)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


Start = Callable[..., Running]


@pytest.fixture
def start(gateway: Gateway, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a command as a process of its own."""
    started: list[Running] = []

    def start(*arguments: str, terminal: bool = False) -> Running:
        folder = tmp_path / f"command-{len(started)}"
        folder.mkdir()
        where = ["-n", namespace, "--kubeconfig", str(gateway.kubeconfig())]
        started.append(Running([*arguments, *where], folder, terminal))
        return started[-1]

    yield start
    for each in started:
        each.kill()
