"""Jobs and pipelines as an operator would leave them."""

from typing import Any

from ..kube import Kube, Object
from ..operator.ray import JOB, PIPELINE, fine_tune_job, rlhf_pipeline

STARTED = "2026-11-27T10:00:00Z"


def make_job(kube: Kube, namespace: str, name: str, phase: str, gpus: int = 0, **status: Any) -> Object:
    """A job with a status written by hand; of as many workers as GPUs."""
    job = fine_tune_job(name, namespace, scaling={"workers": gpus, "resources": {"nvidia.com/gpu": 1}} if gpus else {})
    kube.create(job)
    return set_status(kube, namespace, name, phase=phase, **status)


def set_status(kube: Kube, namespace: str, name: str, **status: Any) -> Object:
    """Changes some of a job's status."""
    return kube.patch_status(*JOB, name, status, namespace)


def make_pipeline(kube: Kube, namespace: str, name: str, **status: Any) -> Object:
    """A pipeline, likewise."""
    kube.create(rlhf_pipeline(name, namespace))
    return kube.patch_status(*PIPELINE, name, status, namespace)


def progress(step: int, **figures: float) -> Object:
    """Of 1,000 steps."""
    return {"step": step, "totalSteps": 1000, "percentage": step // 10} | figures


def attempt(number: int, name: str, **more: Any) -> Object:
    """The record of an attempt."""
    return {"number": number, "rayJob": f"{name}-{number}", "startTime": STARTED} | more


def make_pod(kube: Kube, job: Object, component: str, attempt: int, runs: bool = True) -> str:
    """A pod of a job whose container runs, or waits; gives its name."""
    meta = job["metadata"]
    name = f"{meta['name']}-{attempt}-{component}"
    labels = {
        "tunesmith.dev/job-uid": meta["uid"],
        "tunesmith.dev/attempt": str(attempt),
        "tunesmith.dev/component": component.partition("-")[0],
    }
    container = {"name": component, "image": "example.test/trainer:1"}
    kube.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": meta["namespace"], "labels": labels},
            "spec": {"containers": [container]},
        }
    )
    set_state(kube, meta["namespace"], name, component, "running" if runs else "waiting")
    return name


def set_state(kube: Kube, namespace: str, pod: str, container: str, state: str) -> None:
    """The kubelet reports the container's state."""
    states: Object = {
        "running": {"startedAt": STARTED},
        "waiting": {"reason": "ContainerCreating"},
        "terminated": {"exitCode": 0, "startedAt": STARTED, "finishedAt": STARTED},
    }
    shown = {"name": container, "ready": False, "restartCount": 0, "image": "", "imageID": ""}
    status = {"containerStatuses": [shown | {"state": {state: states[state]}}]}
    kube.patch_status("v1", "Pod", pod, status, namespace)
