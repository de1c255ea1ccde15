"""kubectl, for tests: one namespace of the cluster of the current KUBECONFIG."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.kube import eventually

Object = dict[str, Any]


class Cluster:
    """A namespace, seen through kubectl as a user sees it."""

    def __init__(self, kubectl: Path, namespace: str) -> None:
        self.program, self.namespace = kubectl, namespace

    def run(self, *arguments: str, stdin: str = "", seconds: float = 60) -> "subprocess.CompletedProcess[str]":
        """Runs kubectl, however it ends."""
        command = [str(self.program), "--namespace", self.namespace, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds)

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 60) -> str:
        """Runs kubectl, which must succeed; gives what it prints."""
        done = self.run(*arguments, stdin=stdin, seconds=seconds)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Applies manifests given as data."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def find(self, kind: str, name: str) -> Object | None:
        """An object; None where there is none."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text else None

    def items(self, kinds: str, selector: str = "") -> list[Object]:
        """The objects of one or more kinds, with commas between."""
        found: list[Object] = json.loads(self.kubectl("get", kinds, "--selector", selector, "-o", "json"))["items"]
        return found

    def delete(self, kind: str, name: str) -> None:
        """Deletes an object and waits until it is gone."""
        self.kubectl("delete", kind, name, "--timeout=90s", seconds=100)

    def status(self, job: str, kind: str = "finetunejob") -> Object:
        """The status of a FineTuneJob, or of another kind; empty before the operator has seen it."""
        found = self.find(kind, job)
        assert found is not None, f"there is no {kind} {job}"
        status: Object = found.get("status", {})
        return status

    def condition(self, job: str, kind: str) -> Object:
        """A condition of a FineTuneJob; empty where it has none."""
        conditions = self.status(job).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def await_status(
        self, job: str, holds: Callable[[Object], object], what: str, seconds: float = 240, kind: str = "finetunejob"
    ) -> Object:
        """Waits until a status is as it should be; fails at once when the job has failed for good."""

        def probe() -> Object | None:
            status = self.status(job, kind)
            if holds(status):
                return status
            failed = [c for c in status.get("conditions", []) if (c["type"], c["status"]) == ("Failed", "True")]
            assert not failed, f"{job} has failed while waiting for {what}: {failed}"
            return None

        found = eventually(probe, f"{what} of {job}", seconds)
        assert found is not None
        return found

    def await_pod(self, name: str, condition: str, seconds: int) -> None:
        """Waits for a pod, in the words of `kubectl wait --for`; says what keeps it, such as a pull that fails."""
        waited = self.run("wait", f"pod/{name}", f"--for={condition}", f"--timeout={seconds}s", seconds=seconds + 10)
        if waited.returncode != 0:
            told = self.run("describe", "pod", name).stdout.partition("Events:")[2]
            log = self.run("logs", name, "--tail=20").stdout
            raise AssertionError(f"{waited.stderr}{log}what was told of pod {name}:{told}")

    def pods_of(self, job: str, component: str) -> list[Object]:
        """The pods of a job that are not on their way out."""
        pods = self.items("pods", f"tunesmith.dev/job={job},tunesmith.dev/component={component}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def http(self, pod: str, port: int, path: str) -> "subprocess.CompletedProcess[str]":
        """A GET to a pod's port, through the API server."""
        return self.run("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy/{path}")

    def tunesmith(self, *arguments: str) -> "subprocess.Popen[str]":
        """Starts a command of ours that looks at the namespace."""
        command = [sys.executable, "-m", "tunesmith.cli.main", *arguments, "--namespace", self.namespace]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @contextmanager
    def watching(self, *arguments: str) -> Iterator[list[list[str]]]:
        """Runs `kubectl get ... -w` inside the context; afterwards the list holds its table without the header."""
        rows: list[list[str]] = []
        command = [str(self.program), "--namespace", self.namespace, "get", *arguments, "-w", "--no-headers"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield rows
            finally:
                time.sleep(3)  # what was seen elsewhere just now reaches the watch a moment later
                process.terminate()
                rows += [line.split() for line in process.stdout]
