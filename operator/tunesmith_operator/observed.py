"""What is observed of a job: its children as the few facts that decisions need, taken from the API server's objects."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from tunesmith.api.status import Progress
from tunesmith_operator.names import (
    ATTEMPT_LABEL,
    COMPONENT_LABEL,
    CONTENT_HASH,
    MODELS,
    RUNS,
    SPEC_HASH,
)

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Meta:
    """What is common to all children."""

    name: str
    uid: str
    owner: str
    """The uid of the controlling owner."""
    attempt: int
    """The attempt that it belongs to; 0 where that is not known."""
    created: datetime
    deleted: datetime | None
    """When its grace for deletion is over; None while nobody deleted it."""


@dataclass(frozen=True)
class Model:
    """A model that a job reads, as its pods see it."""

    source: str
    """Its address, with job:// resolved."""
    claims: tuple[str, ...] = ()
    """The claims that the model of another job lies on, or points to."""


@dataclass(frozen=True)
class ConfigMap:
    """The ConfigMap of an attempt."""

    meta: Meta
    spec_hash: str
    content_hash: str
    models: Mapping[str, Model]
    """The models of other jobs by their address in the spec."""
    runs: Mapping[str, Model]
    """The run folders of other jobs by the job's name."""


@dataclass(frozen=True)
class RayJob:
    """The RayJob of an attempt."""

    meta: Meta
    suspended: bool
    """Waits in a queue."""
    deployment: str
    """KubeRay's jobDeploymentStatus."""
    job: str
    """Ray's jobStatus."""
    reason: str
    message: str
    started: datetime | None
    """When its Ray cluster was asked for; after a queue let it in, that moment."""
    ended: datetime | None
    trouble: str
    """Why KubeRay could not make a pod."""

    @property
    def finished(self) -> bool:
        return self.deployment in ("Complete", "Failed", "ValidationFailed")


@dataclass(frozen=True)
class EvaluationJob:
    """The batch Job of the evaluation."""

    meta: Meta
    finished: Literal["", "Complete", "Failed"]
    message: str


@dataclass(frozen=True)
class Container:
    """The state of a container."""

    waiting: str
    """The reason why it waits; empty when it does not."""
    waiting_message: str
    exit_code: int | None
    message: str
    """The termination message."""
    killed_for_memory: bool
    """Now or before its last restart."""


@dataclass(frozen=True)
class Pod:
    """A pod of a job."""

    meta: Meta
    component: str
    phase: str
    address: str
    scheduled: datetime | None
    """When a node was found for it."""
    unschedulable: str
    """Why no node takes it."""
    disruption: str
    """Why it was evicted, preempted or lost."""
    containers: tuple[Container, ...]

    @property
    def over(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True)
class Reference:
    """An object of the user's that a job names."""

    kind: Literal["PersistentVolumeClaim", "ConfigMap"]
    name: str


@dataclass(frozen=True)
class Refusal:
    """The API server, or somebody's object of the same name, stands in the way of a child."""

    reason: str
    message: str


class Try(NamedTuple):
    """One try to deliver a notification."""

    event: str
    """What it is about, as in the status."""
    to: str
    format: str
    number: int
    """Counted from 1."""


@dataclass(frozen=True)
class Answer:
    """What came of a try."""

    result: Literal["delivered", "again", "refused"]
    """`again` where another try may help."""
    message: str = ""
    """What went wrong, without anything that is secret."""
    wait: float = 0.0
    """Seconds that the receiver asks to be left alone."""


@dataclass(frozen=True)
class Receivers:
    """What is known of those who are notified."""

    webhooks: frozenset[str] = frozenset()
    """The names that have a URL."""
    answers: Mapping[Try, Answer] = field(default_factory=dict)
    """What came of the tries of one job or pipeline, for as long as its status does not say so."""


@dataclass(frozen=True)
class Observed:
    """Everything that a decision about one job rests on."""

    body: Object
    now: datetime
    config_maps: Mapping[str, ConfigMap] = field(default_factory=dict)
    """Children by name; likewise below."""
    ray_jobs: Mapping[str, RayJob] = field(default_factory=dict)
    evaluation_jobs: Mapping[str, EvaluationJob] = field(default_factory=dict)
    pods: Mapping[str, Pod] = field(default_factory=dict)
    jobs: Mapping[str, Object] = field(default_factory=dict)
    """The FineTuneJobs of the namespace, by name."""
    references: Mapping[Reference, bool] = field(default_factory=dict)
    """Whether the objects that were looked up are there."""
    refusal: Refusal | None = None
    """Why a child could not be made just now."""
    progress: Progress | None = None
    """The last reading of the running attempt's progress."""
    receivers: Receivers = field(default_factory=Receivers)
    """Those who hear of its end."""


def parse_time(text: str | None) -> datetime | None:
    """A timestamp of the API server."""
    return datetime.fromisoformat(text) if text else None


def _meta(body: Object) -> Meta:
    meta = body["metadata"]
    owners = [owner["uid"] for owner in meta.get("ownerReferences", ()) if owner.get("controller")]
    attempt = meta.get("labels", {}).get(ATTEMPT_LABEL, "")
    return Meta(
        name=meta["name"],
        uid=meta["uid"],
        owner=owners[0] if owners else "",
        attempt=int(attempt) if attempt.isdecimal() else 0,
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        deleted=parse_time(meta.get("deletionTimestamp")),
    )


def config_map(body: Object) -> ConfigMap:
    notes = body["metadata"].get("annotations", {})
    return ConfigMap(
        meta=_meta(body),
        spec_hash=notes.get(SPEC_HASH, ""),
        content_hash=notes.get(CONTENT_HASH, ""),
        models=_models(notes.get(MODELS, "{}")),
        runs=_models(notes.get(RUNS, "{}")),
    )


def _models(text: str) -> dict[str, Model]:
    return {key: Model(model["source"], tuple(model["claims"])) for key, model in json.loads(text).items()}


def ray_job(body: Object) -> RayJob:
    status = body.get("status") or {}
    conditions = status.get("rayClusterStatus", {}).get("conditions", ())
    trouble = [c["message"] for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"]
    return RayJob(
        meta=_meta(body),
        suspended=bool(body["spec"].get("suspend")),
        deployment=status.get("jobDeploymentStatus", ""),
        job=status.get("jobStatus", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        started=parse_time(status.get("startTime")),
        ended=parse_time(status.get("endTime")),
        trouble=trouble[0] if trouble else "",
    )


def evaluation_job(body: Object) -> EvaluationJob:
    conditions = {c["type"]: c for c in body.get("status", {}).get("conditions", ()) if c["status"] == "True"}
    finished: Literal["", "Complete", "Failed"] = (
        "Complete" if "Complete" in conditions else "Failed" if "Failed" in conditions else ""
    )
    return EvaluationJob(_meta(body), finished, conditions.get(finished, {}).get("message", ""))


def pod(body: Object) -> Pod:
    status = body.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    placed = conditions.get("PodScheduled", {})
    disrupted = conditions.get("DisruptionTarget", {})
    states = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    disruption = disrupted.get("message") or disrupted.get("reason", "") if disrupted.get("status") == "True" else ""
    if status.get("reason") in ("Evicted", "Preempting", "NodeLost", "Shutdown", "Terminated", "NodeShutdown"):
        disruption = disruption or status.get("message") or status["reason"]
    return Pod(
        meta=_meta(body),
        component=body["metadata"].get("labels", {}).get(COMPONENT_LABEL, ""),
        phase=status.get("phase", ""),
        address=status.get("podIP", ""),
        scheduled=parse_time(placed.get("lastTransitionTime")) if placed.get("status") == "True" else None,
        unschedulable=placed.get("message", "") if placed.get("reason") == "Unschedulable" else "",
        disruption=disruption,
        containers=tuple(_container(state) for state in states),
    )


def _container(status: Object) -> Container:
    state, last = status.get("state", {}), status.get("lastState", {})
    waiting, ended = state.get("waiting", {}), state.get("terminated", {})
    killed = "OOMKilled" in (ended.get("reason"), last.get("terminated", {}).get("reason"))
    return Container(
        waiting=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        message=ended.get("message", ""),
        killed_for_memory=killed,
    )
