"""A real Ray head, and submitters as processes, for the tests of `tunesmith submit`; the training is a stand-in."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunConfig

RUN = RunConfig(attempt=2, folder="pvc://runs/team/job-0a1b2c3d")
TOKEN = "a-token-of-at-least-32-characters-0123456789"
SUBMIT = """
import sys
from tunesmith.cli import main, submit
submit.PATIENCE_S, submit.RESULT_PATIENCE_S = float(sys.argv[1]), 1
sys.exit(main.main(["submit", *sys.argv[2:]]))
"""
TRAIN = """#!/bin/sh
echo "$@" >> {folder}/starts
echo step 1
while [ ! -s {folder}/end ]; do sleep 0.1; done
echo step 2
exit "$(cat {folder}/end)"
"""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Polls until `condition` holds; fails after 90 seconds."""
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


class RayHead:
    """A head node with a dashboard and token authentication, whose `tunesmith train` waits to be told its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = folder / "bin" / "tunesmith"
        command.parent.mkdir()
        command.write_text(TRAIN.format(folder=folder), encoding="utf-8")
        command.chmod(0o755)
        self.port = _free_port()
        self.environment = os.environ | {
            "PATH": f"{command.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)  # the paths of sockets are short

    def start(self) -> None:
        if self._process is not None:
            return
        options = {
            "port": _free_port(),
            "dashboard-port": self.port,
            "dashboard-agent-listen-port": _free_port(),
            "ray-client-server-port": _free_port(),
            "num-cpus": 1,
            "object-store-memory": 80_000_000,
            "temp-dir": self._scratch.name,
        }
        self._process = subprocess.Popen(
            ["ray", "start", "--head", "--block", *(f"--{name}={value}" for name, value in options.items())],
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)  # SIGTERM would take half a minute
        self._process.wait()
        self._process = None
        self._scratch.cleanup()

    def prepare(self) -> None:
        """Makes the next training wait again."""
        for name in ("starts", "end"):
            (self.folder / name).unlink(missing_ok=True)

    def starts(self) -> int:
        """How often the training was started since `prepare`."""
        return len(self.commands())

    def commands(self) -> list[str]:
        """What `tunesmith` was started with since `prepare`."""
        file = self.folder / "starts"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def end_training(self, exit_code: int) -> None:
        (self.folder / "end").write_text(str(exit_code), encoding="utf-8")


class Submitter:
    """A RayJob's submitter pod; it may be started more than once."""

    def __init__(self, head: RayHead, folder: Path, run: RunConfig = RUN) -> None:
        head.prepare()
        self._head, self._folder = head, folder
        (folder / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
        self.run_folder = folder / "mounts/pvc" / RUN.folder.removeprefix("pvc://")
        self.run_folder.mkdir(parents=True)

    def start(self, port: int | None = None, patience: float = 60, token: str = TOKEN) -> "subprocess.Popen[str]":
        kuberay = {
            "RAY_DASHBOARD_ADDRESS": f"127.0.0.1:{port or self._head.port}",
            "RAY_JOB_SUBMISSION_ID": self._folder.name,
            "RAY_AUTH_TOKEN": token,
        }
        files = {
            "config-dir": self._folder,
            "mount-root": self._folder / "mounts",
            "termination-log": self._folder / "termination-log",
        }
        return subprocess.Popen(
            [sys.executable, "-c", SUBMIT, str(patience), *(f"--{name}={path}" for name, path in files.items())],
            env=self._head.environment | kuberay,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def printed(self, process: "subprocess.Popen[str]", line: str) -> None:
        """Reads the log up to this line."""
        assert process.stdout is not None
        assert any(_message(printed) == line for printed in process.stdout), f"ended without {line!r}"

    def complained(self, process: "subprocess.Popen[str]", text: str) -> None:
        """Reads the log up to a line with this text."""
        assert process.stdout is not None
        assert any(text in _message(printed) for printed in process.stdout), f"ended without {text!r}"

    def finish(self, process: "subprocess.Popen[str]") -> tuple[int, list[str]]:
        """Waits for the end; gives the exit code and the log's lines without Ray's own."""
        out, err = process.communicate(timeout=120)
        sys.stderr.write(out + err)
        assert "WebSocket" not in err, "Ray's client says what it has to say in lines as the others"
        messages = map(_message, out.splitlines())
        return process.returncode, [message for message in messages if message.startswith("step")]

    def leave_result(self, outcome: Outcome, name: str = "result.json") -> None:
        """As the trainer does."""
        file = self.run_folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(outcome.model_dump_json(), encoding="utf-8")

    def outcome(self) -> Outcome | None:
        """The pod's termination message."""
        file = self._folder / "termination-log"
        return Outcome.model_validate_json(file.read_text(encoding="utf-8")) if file.exists() else None


class Proxy:
    """Passes TCP connections on to a port, and can break them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._ends: list[socket.socket] = []
        self._whole = True
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Breaks every connection and refuses new ones."""
        self._whole = False
        for end in list(self._ends):
            with suppress(OSError):  # the peer was faster
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._whole = True

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            if not self._whole:
                return
            with socket.create_connection(("127.0.0.1", self._target)) as far:
                self._ends += [near, far]
                back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
                back.start()
                _pass_on(near, far)
                back.join()
                self._ends = [end for end in self._ends if end not in (near, far)]


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


def _message(line: str) -> str:
    """What a line of the log says; every line is JSON, and says whose it is."""
    read = json.loads(line)
    assert (read["namespace"], read["job"], read["attempt"]) == ("team", "job", RUN.attempt)
    return str(read["message"])


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
