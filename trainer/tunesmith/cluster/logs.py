"""Reads the logs of pods, each line once, over however many connections that takes."""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tunesmith.cluster.client import Cluster, ClusterError
from tunesmith.cluster.find import get
from tunesmith.cluster.kinds import PODS
from tunesmith.cluster.pods import RunPod, read_pod

_PAUSE_S = 1.0
_PATIENCE_S = 300.0
"""How long the API server may be out of reach before following ends."""


@dataclass(frozen=True)
class Wanted:
    """Which lines."""

    tail: int | None = None
    """The last so many; all by default."""
    since_seconds: int | None = None
    """No older ones."""

    def query(self) -> dict[str, str]:
        """For the API server."""
        asked = {"tailLines": self.tail, "sinceSeconds": self.since_seconds}
        return {name: str(value) for name, value in asked.items() if value is not None}


def read_log(cluster: Cluster, pod: RunPod, wanted: Wanted) -> Iterator[str]:
    """The lines that are there now.

    Raises:
        ClusterError: the log cannot be read.
    """
    for line in cluster.lines(_path(pod), {"container": pod.container, **wanted.query()}):
        yield line.decode(errors="replace")


def follow_log(cluster: Cluster, pod: RunPod, wanted: Wanted) -> Iterator[str]:
    """The lines as they come, until the container has ended or the pod is gone."""
    query, last, known = wanted.query(), "", ""
    answered = time.monotonic()
    while True:
        try:
            asked = {"container": pod.container, "follow": "true", "timestamps": "true", **query}
            for line in cluster.lines(_path(pod), asked):
                stamp, _, text = line.decode(errors="replace").partition(" ")
                if stamp > known:
                    last = stamp
                    yield text
            answered = time.monotonic()
            if _has_ended(cluster, pod):
                return
        except ClusterError as error:
            if error.code == 404:
                return
            if error.code or time.monotonic() - answered > _PATIENCE_S:
                raise
        if last:  # the connection broke: what comes again is known
            query, known = {"sinceTime": last}, last
        time.sleep(_PAUSE_S)


def _has_ended(cluster: Cluster, pod: RunPod) -> bool:
    body = get(cluster, PODS, pod.namespace, pod.name)
    return body is None or body["metadata"]["uid"] != pod.uid or read_pod(body).has_ended


def follow_logs(cluster: Cluster, pods: list[RunPod], wanted: Wanted) -> Iterator[tuple[RunPod, str]]:
    """The lines of several pods as they come."""
    lines: queue.Queue[tuple[RunPod, str | Exception | None]] = queue.Queue(1000)

    def read(pod: RunPod) -> None:
        try:
            for line in follow_log(cluster, pod, wanted):
                lines.put((pod, line))
            lines.put((pod, None))
        except Exception as error:  # raised by whoever reads the queue
            lines.put((pod, error))

    for pod in pods:
        threading.Thread(target=read, args=(pod,), daemon=True, name=f"log-{pod.name}").start()
    left = len(pods)
    while left:
        pod, line = lines.get()
        if isinstance(line, Exception):
            raise line
        if line is None:
            left -= 1
        else:
            yield pod, line


def _path(pod: RunPod) -> str:
    return f"{PODS.path(pod.namespace, pod.name)}/log"
