"""Which pods hold the log that somebody means."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunesmith.api.labels import ATTEMPT_LABEL, COMPONENT_LABEL, UID_LABEL
from tunesmith.cluster.client import Cluster, Object
from tunesmith.cluster.kinds import PODS

_TELLING = ("submitter", "evaluation")
"""The pods whose log is the run's: the submitter prints all that the driver and the workers write."""


@dataclass(frozen=True)
class RunPod:
    """A pod of a job."""

    namespace: str
    name: str
    uid: str
    component: str
    attempt: int
    """Tries of an evaluation are counted on from the attempts."""
    container: str
    created: datetime
    waits: str
    """Why its container does not run yet; empty where it runs or has run."""
    has_ended: bool
    """Whether its container will write no more."""


def pods_of(cluster: Cluster, job: Object) -> list[RunPod]:
    """The pods of a job that are there."""
    meta = job["metadata"]
    pages = cluster.pages(PODS, meta["namespace"], {"labelSelector": f"{UID_LABEL}={meta['uid']}"})
    return [read_pod(body) for page in pages for body in page["items"] or []]


def read_pod(body: Object) -> RunPod:
    """A pod as the API server gives it."""
    meta, status = body["metadata"], body.get("status") or {}
    labels, container = meta.get("labels") or {}, body["spec"]["containers"][0]["name"]
    number = str(labels.get(ATTEMPT_LABEL, ""))
    states = {each["name"]: each.get("state") or {} for each in status.get("containerStatuses") or ()}
    state: dict[str, Any] = states.get(container, {})
    return RunPod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        component=labels.get(COMPONENT_LABEL, ""),
        attempt=int(number) if number.isdecimal() else 0,
        container=container,
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        waits="" if state and "waiting" not in state else _why_it_waits(state, status),
        has_ended="terminated" in state or status.get("phase") in ("Succeeded", "Failed"),
    )


def _why_it_waits(state: dict[str, Any], status: dict[str, Any]) -> str:
    waiting, conditions = state.get("waiting") or {}, status.get("conditions") or ()
    unscheduled = (c.get("message") for c in conditions if (c["type"], c["status"]) == ("PodScheduled", "False"))
    said = (waiting.get("message"), waiting.get("reason"), *unscheduled, status.get("phase"))
    return next((text for text in said if text), "Pending")


def attempt_numbers(job: Object) -> list[int]:
    """The attempts that a status knows, oldest first."""
    return [each["number"] for each in (job.get("status") or {}).get("attempts") or ()]


def chosen(pods: Iterable[RunPod], job: Object, attempt: int | None, everything: bool) -> list[RunPod]:
    """The pods that hold the log of an attempt, or of what the job does now, oldest first.

    Args:
        pods: the job's.
        job: as the API server gives it.
        attempt: its number; by default the newest, or the evaluation once that has pods.
        everything: every pod, the head's and the workers' too, whose own log is Ray's.
    """
    known, pods = attempt_numbers(job), list(pods)
    if attempt is not None:
        mine = [pod for pod in pods if pod.attempt == attempt]
    else:
        newest = max((pod.attempt for pod in pods), default=0)
        mine = [pod for pod in pods if pod.attempt == newest and (not known or newest >= known[-1])]
    if not everything:
        mine = [pod for pod in mine if pod.component in _TELLING]
        mine = sorted(mine, key=lambda pod: pod.created)[-1:]  # a submitter that lost its connection has a successor
    return sorted(mine, key=lambda pod: (pod.created, pod.name))
