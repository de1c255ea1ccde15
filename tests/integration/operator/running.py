"""The operator as its own process, allowed what the chart allows it."""

import os
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import yaml

from ..controlplane import ControlPlane
from ..kube import Kube
from ..process import Process, free_ports, running
from ..test_chart import render

ROOT = Path(__file__).resolve().parents[3]
QUICK = {
    "image": "example.test/trainer:1",
    "storage-claim": "runs",
    "progress-seconds": "0.5",
    "retry-seconds": "0.1",
    "recheck-seconds": "0.5",
    "outcome-grace-seconds": "0.5",
    "notification-retry-seconds": "0.2",
}
"""Settings that a test does not want to wait for."""


def allow(plane: ControlPlane, kube: Kube, namespace: str) -> Path:
    """Gives a ServiceAccount the rights of the chart in this namespace; returns its kubeconfig."""
    for each in render({"settings": {"namespaces": [namespace]}}, namespace):
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            each["metadata"]["namespace"] = namespace
            kube.create(each)
    return plane.kubeconfig_for("tunesmith", namespace)


class Operator:
    """Starts and kills operator processes."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path, server: str = "") -> None:
        self._kubeconfig, self._namespace, self._log = kubeconfig, namespace, log
        self._stack = ExitStack()
        self.process: Process | None = None
        self.starts = 0
        self.alive = False
        self.webhooks = log.with_name("webhooks")
        """The folder of the URLs that notifications name."""
        self.webhooks.mkdir()
        (self.port,) = free_ports(1)
        if server:
            config = yaml.safe_load(kubeconfig.read_text())
            config["clusters"][0]["cluster"] = {"server": server}
            self._kubeconfig = log.with_suffix(".kubeconfig")
            self._kubeconfig.write_text(yaml.safe_dump(config))

    def start(self, **settings: str) -> "Operator":
        """Starts it; it is ready a moment later."""
        self.stop()
        self.starts += 1
        own = {"namespaces": self._namespace, "port": str(self.port), "webhooks-folder": str(self.webhooks)}
        flags = QUICK | own | settings
        path = os.pathsep.join(str(ROOT / part) for part in ("trainer", "operator"))
        command: list[str | Path] = [
            "env",
            f"KUBECONFIG={self._kubeconfig}",
            f"PYTHONPATH={path}",
            sys.executable,
            "-m",
            "tunesmith_operator",
            *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()),
        ]
        log = self._log.with_name(f"{self._log.name}.{self.starts}")
        self.process = self._stack.enter_context(running(command, log))
        self.alive = True
        return self

    def wait_until_healthy(self) -> "Operator":
        assert self.process is not None
        self.process.wait_until(lambda: self.health() == (200, "ok"))
        return self

    def kill(self) -> None:
        """Kills it in the midst of what it does; from any thread."""
        assert self.process is not None
        self.process.kill()
        self.alive = False

    def stop(self) -> None:
        """Kills it, if it runs."""
        self._stack.close()
        self.alive = False

    def health(self) -> tuple[int, str]:
        """Status and text of /healthz; 0 when nobody answers."""
        return self._get("/healthz")

    def log(self) -> str:
        """What all of its starts have written."""
        return "".join(file.read_text() for file in sorted(self._log.parent.glob(f"{self._log.name}.*[0-9]")))

    def metrics(self) -> str:
        return self._get("/metrics")[1]

    def _get(self, path: str) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""
