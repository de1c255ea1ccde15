"""What all children share: labels and the owner."""

from typing import Any

from tunesmith.api.base import API_VERSION
from tunesmith_operator.job import Run
from tunesmith_operator.names import ATTEMPT_LABEL, COMPONENT_LABEL, JOB_LABEL, UID_LABEL, label_value


def labels(run: Run, component: str = "") -> dict[str, str]:
    """The labels of an attempt's objects; of a pod with its component."""
    found = {JOB_LABEL: label_value(run.job.name), UID_LABEL: run.job.uid, ATTEMPT_LABEL: str(run.attempt)}
    return found | ({COMPONENT_LABEL: component} if component else {})


def metadata(run: Run, name: str) -> dict[str, Any]:
    """The metadata of a child."""
    owner = owner_reference("FineTuneJob", run.job.name, run.job.uid)
    return {"name": name, "namespace": run.job.namespace, "labels": labels(run), "ownerReferences": [owner]}


def owner_reference(kind: str, name: str, uid: str) -> dict[str, Any]:
    """Blocking the owner's deletion would need a permission on its finalizers, for nothing."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
