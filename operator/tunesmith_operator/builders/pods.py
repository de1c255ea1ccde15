"""The pods of a run: restricted, without a token, the same mounts and environment in each."""

import math
from collections.abc import Sequence
from typing import Any

from tunesmith.api.pod import CONFIG_DIR, METRICS_PORT, MOUNT_ROOT
from tunesmith.api.quantity import parse_quantity
from tunesmith_operator.builders.common import labels
from tunesmith_operator.job import Run
from tunesmith_operator.settings import PodResources, Settings

GROUP_ID = 1000
"""Group of the files on a claim whose driver sets it, so that all pods can write there."""
HOME = "/home/tunesmith"
METRICS_PORT_NAME = "tunesmith"
"""KubeRay gives `metrics` to Ray's own port."""


def pod_template(
    run: Run,
    settings: Settings,
    component: str,
    resources: dict[str, Any],
    command: Sequence[str] = (),
    metrics: bool = False,
    tracks: bool = False,
) -> dict[str, Any]:
    """A pod template; KubeRay sets the command of Ray's own pods.

    Args:
        component: what the pod is, for its label.
        resources: of its container, as `worker_resources` or `fixed_resources` give them.
        metrics: whether it serves the trainer's metrics.
        tracks: whether `tunesmith track` runs in it, which needs the trackers' keys.
    """
    runtime = run.job.spec.runtime
    container: dict[str, Any] = {
        "name": component,
        "image": run.image,
        "imagePullPolicy": runtime.image_pull_policy or settings.image_pull_policy,
        "env": _environment(run, tracks),
        "resources": resources,
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": _mounts(run),
    }
    if command:
        container["command"] = list(command)
    if metrics:
        container["ports"] = [{"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT}]
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _POD_SECURITY,
        "containers": [container],
        "volumes": _volumes(run),
    }
    return {"metadata": {"labels": labels(run, component)}, "spec": spec | _placement(run)}


def worker_resources(run: Run, beside: str = "0") -> dict[str, Any]:
    """The resources of one worker: cpu is a request, memory and GPUs are request and limit.

    Args:
        run: its worker's.
        beside: the memory of what runs in the same pod, as a quantity.
    """
    wanted = run.job.spec.scaling.resources
    memory = wanted.memory and _sum(wanted.memory, beside)
    limits = {"memory": memory, "nvidia.com/gpu": None if wanted.gpu is None else str(wanted.gpu)}
    requests = {"cpu": wanted.cpu} | limits
    return {"requests": _present(requests), "limits": _present(limits)}


def fixed_resources(resources: PodResources) -> dict[str, Any]:
    """The resources of a pod that does not train."""
    return {"requests": {"cpu": resources.cpu, "memory": resources.memory}, "limits": {"memory": resources.memory}}


def _sum(memory: str, more: str) -> str:
    """In the first one's own words where nothing comes to it, else in MiB, rounded up."""
    added = parse_quantity(more)
    return f"{math.ceil((parse_quantity(memory) + added) / 2**20)}Mi" if added else memory


def _present(values: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


_POD_SECURITY = {
    "runAsNonRoot": True,
    "fsGroup": GROUP_ID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


_OURS = {
    "HOME": HOME,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # it would fold the lines of several workers, and append to them
    "RAY_COLOR_PREFIX": "0",
}


def _environment(run: Run, tracks: bool) -> list[dict[str, Any]]:
    """Ours, then the user's, who may replace ours. Theirs are taken as they are: Kubernetes would expand `$(NAME)` and
    make one `$` of two.
    """
    variables: dict[str, dict[str, Any]] = {name: {"name": name, "value": value} for name, value in _OURS.items()}
    tracking = run.job.spec.tracking
    for name, key in tracking.secrets.items() if tracks and tracking is not None else ():
        variables[name] = {"name": name, "valueFrom": {"secretKeyRef": key.to_dict()}}
    for variable in run.job.spec.runtime.env:
        entry = variable.to_dict()
        if variable.value is not None:
            entry["value"] = variable.value.replace("$", "$$")
        variables[variable.name] = entry
    return list(variables.values())


def _mounts(run: Run) -> list[dict[str, Any]]:
    claims = [
        {"name": f"claim-{index}", "mountPath": str(MOUNT_ROOT / "pvc" / claim)} | ({"readOnly": True} if read else {})
        for index, (claim, read) in enumerate(run.claims.items())
    ]
    data = [
        {"name": f"data-{index}", "mountPath": str(MOUNT_ROOT / "configmap" / name), "readOnly": True}
        for index, name in enumerate(run.config_maps)
    ]
    return [
        {"name": "config", "mountPath": str(CONFIG_DIR), "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "home", "mountPath": HOME},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
        *claims,
        *data,
    ]


def _volumes(run: Run) -> list[dict[str, Any]]:
    size = run.job.spec.runtime.shared_memory
    claims = [
        {"name": f"claim-{index}", "persistentVolumeClaim": {"claimName": claim}}
        for index, claim in enumerate(run.claims)
    ]
    data = [{"name": f"data-{index}", "configMap": {"name": name}} for index, name in enumerate(run.config_maps)]
    return [
        {"name": "config", "configMap": {"name": run.name}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "home", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"} | ({"sizeLimit": size} if size else {})},
        *claims,
        *data,
    ]


def _placement(run: Run) -> dict[str, Any]:
    runtime, priority = run.job.spec.runtime, run.job.spec.priority_class_name
    given = {
        "nodeSelector": dict(runtime.node_selector),
        "tolerations": [toleration.to_dict() for toleration in runtime.tolerations],
        "imagePullSecrets": [secret.to_dict() for secret in runtime.image_pull_secrets],
        "serviceAccountName": runtime.service_account_name,
        "priorityClassName": priority,
    }
    return {name: value for name, value in given.items() if value}
