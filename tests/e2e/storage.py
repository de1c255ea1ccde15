"""Storage for runs, and a look into it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.cluster import Cluster, Object

READER = "reader"
_ON_NODE = "/var/tmp"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@contextmanager
def claim(cluster: Cluster, name: str, image: str) -> Iterator[None]:
    """A PersistentVolumeClaim of the default StorageClass or, where there is none, of a folder on the node.

    Args:
        cluster: where the claim is made.
        name: of the claim.
        image: any image with a shell.
    """
    classes = cluster.items("storageclasses")
    wanted: Object = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    has_class = any(each["metadata"].get("annotations", {}).get(_DEFAULT_CLASS) == "true" for each in classes)
    folder = f"tunesmith-e2e-{secrets.token_hex(4)}"
    if not has_class:
        _run_on_node(cluster, image, f"mkdir -m 777 /node/{folder}")
        wanted |= {"storageClassName": "", "volumeName": folder}
        spec = {
            "capacity": wanted["resources"]["requests"],
            "accessModes": wanted["accessModes"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"{_ON_NODE}/{folder}", "type": "Directory"},
        }
        cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": folder}, "spec": spec})
    meta = {"name": name, "namespace": cluster.namespace}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": wanted})
    yield
    if not has_class:
        cluster.kubectl("delete", "persistentvolume", folder, "--wait=false")
        _run_on_node(cluster, image, f"rm -r /node/{folder}")


def _run_on_node(cluster: Cluster, image: str, command: str) -> None:
    """Runs a shell command as the node's root; only a namespace without a security standard allows that."""
    outside = Cluster(cluster.program, "default")
    name = f"tunesmith-e2e-{secrets.token_hex(4)}"
    container = {
        "name": "shell",
        "image": image,
        "imagePullPolicy": "Always",
        "command": ["sh", "-c", command],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "node", "mountPath": "/node"}],
    }
    volume = {"name": "node", "hostPath": {"path": _ON_NODE}}
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    outside.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    try:
        outside.await_pod(name, "jsonpath={.status.phase}=Succeeded", seconds=90)
    finally:
        outside.kubectl("delete", "pod", name, "--wait=false")


def start_reader(cluster: Cluster, image: str, claim_name: str) -> None:
    """Starts a pod that sees the runs; waits for it, and so for the first pull of the image."""
    container = {
        "name": "shell",
        "image": image,
        "imagePullPolicy": "Always",
        "command": ["sleep", "infinity"],
        "securityContext": _SECURITY,
        "volumeMounts": [{"name": "runs", "mountPath": "/runs", "readOnly": True}],
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": claim_name}}],
    }
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": READER}, "spec": spec})
    cluster.await_pod(READER, "condition=Ready", seconds=500)


def shell(cluster: Cluster, address: str, command: str) -> str:
    """What a shell command prints in a folder given as pvc://CLAIM/PATH."""
    folder = address.removeprefix("pvc://").partition("/")[2]
    return cluster.kubectl("exec", READER, "--", "sh", "-c", f"cd /runs/{folder} && {command}")
