"""Kubernetes Events: what a plan tells, on the wire."""

from datetime import datetime
from typing import Any

from tunesmith_operator.names import digest
from tunesmith_operator.observed import Object
from tunesmith_operator.reconcile.decision import timestamp
from tunesmith_operator.reconcile.plan import Event

_LONGEST_MESSAGE = 1024
_COMPONENT = "tunesmith-operator"


def event_body(job: Object, event: Event, now: datetime) -> dict[str, Any]:
    """The Event; its name is made from what it tells, so that telling it twice makes one."""
    meta, when = job["metadata"], timestamp(now)
    about = {name: job[name] for name in ("apiVersion", "kind")}
    about |= {name: meta[name] for name in ("name", "namespace", "uid", "resourceVersion")}
    identity = "/".join((meta["uid"], event.reason, event.key))
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name'][:200]}.{digest(identity, 16)}", "namespace": meta["namespace"]},
        "involvedObject": about,
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "message": event.message[:_LONGEST_MESSAGE],
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
    }
