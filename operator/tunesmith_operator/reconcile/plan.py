"""What is to be done about a job or a pipeline: the result of a decision, carried out by `controller`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.api.pipeline_status import PipelineStatus
from tunesmith.api.status import JobStatus
from tunesmith_operator.observed import Reference, Try

ChildKind = Literal["ConfigMap", "RayJob", "Job", "FineTuneJob"]


@dataclass(frozen=True)
class Event:
    """A line of the job's story."""

    reason: str
    message: str
    warning: bool
    key: str
    """Tells it from other events of the same reason, so that it is told once, whoever tells it again."""


@dataclass(frozen=True)
class Deletion:
    """A child to delete."""

    kind: ChildKind
    name: str
    uid: str


@dataclass(frozen=True)
class SpecPatch:
    """A merge patch of a child's spec."""

    kind: ChildKind
    name: str
    patch: Mapping[str, Any]


@dataclass(frozen=True)
class Delivery:
    """A notification to send now."""

    attempt: Try
    webhook: str | None
    """The name of its URL."""
    url: str | None
    """Its URL, where it has no name; on a host that is allowed."""
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Plan:
    """What is to be done, in the order of the fields; the next look finds again what was cut off in between."""

    lookups: tuple[Reference, ...] = ()
    """Objects to look up before anything else can be decided; nothing else is set then."""
    create: tuple[Mapping[str, Any], ...] = ()
    change: tuple[SpecPatch, ...] = ()
    events: tuple[Event, ...] = ()
    status: JobStatus | PipelineStatus | None = None
    """The status to write; None when it stands already."""
    notify: tuple[Delivery, ...] = ()
    """What is to be sent, once the status says so; what is under way already is not sent twice."""
    delete: tuple[Deletion, ...] = ()
    delete_itself: bool = False
    """The time of the job or pipeline itself is over."""
    poll: tuple[str, ...] = ()
    """Addresses of the pods, one of which serves the progress."""
    look_again: float | None = None
    """Seconds after which time alone may change the decision."""
