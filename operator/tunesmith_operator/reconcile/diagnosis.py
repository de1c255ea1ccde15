"""Reads off a job's pods how they fare: what they wait for, what killed them, what they left as a message."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import ValidationError

from tunesmith.api.outcome import Outcome
from tunesmith_operator.observed import Container, Pod

TRAINING = ("head", "worker")
_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError")


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not start."""

    reason: str
    message: str
    since: datetime
    """When it began, at the earliest."""
    patience: Literal["none", "some", "endless"]
    """How long it may last before the job fails: not at all, for a grace, or as long as it takes."""


def trouble(pods: Iterable[Pod]) -> Trouble | None:
    """The worst reason why pods wait: what cannot pass by itself comes first."""
    found = [each for pod in pods if not pod.over and pod.meta.deleted is None for each in _troubles(pod)]
    return min(found, key=lambda each: ("none", "some", "endless").index(each.patience), default=None)


def hopeless(trouble: Trouble, now: datetime, grace_seconds: float) -> bool:
    """Whether waiting any longer is in vain."""
    overdue = now >= trouble.since + timedelta(seconds=grace_seconds)
    return trouble.patience == "none" or (trouble.patience == "some" and overdue)


def _troubles(pod: Pod) -> Iterator[Trouble]:
    since = pod.scheduled or pod.meta.created
    if pod.unschedulable:
        text = f"{pod.unschedulable} Ask for less in spec.scaling.resources, or add a node that fits"
        yield Trouble("Unschedulable", f"no node takes pod {pod.meta.name}: {text}", since, "endless")
    for container in pod.containers:
        text = container.waiting_message
        if container.waiting == "InvalidImageName":
            text = f"{text or 'the image has no valid name'}: correct spec.runtime.image"
            yield Trouble("InvalidImageName", f"pod {pod.meta.name}: {text}", since, "none")
        elif container.waiting in _IMAGE_REASONS:
            text = f"{text or container.waiting}. Check spec.runtime.image and spec.runtime.imagePullSecrets"
            yield Trouble("ImagePullFailed", f"pod {pod.meta.name}: {text}", since, "some")
        elif container.waiting in _CONFIG_REASONS:
            text = f"{text or container.waiting}. Create what is missing, or correct spec.runtime.env"
            yield Trouble("MissingReference", f"pod {pod.meta.name}: {text}", since, "some")


def disruption(pods: Iterable[Pod]) -> str:
    """How a training pod was evicted, preempted or lost; empty where none was."""
    found = (f"pod {pod.meta.name}: {pod.disruption}" for pod in pods if pod.disruption and pod.component in TRAINING)
    return next(found, "")


def out_of_memory(pods: Iterable[Pod]) -> Pod | None:
    """A pod with a container that was killed for memory."""
    return next((pod for pod in pods if any(container.killed_for_memory for container in pod.containers)), None)


def outcome(pods: Iterable[Pod]) -> Outcome | None:
    """What the pods of one kind left as their message: success if any says so, else the newest."""
    newest = sorted(pods, key=lambda pod: pod.meta.created, reverse=True)
    left = [found for pod in newest for container in pod.containers if (found := _outcome(container)) is not None]
    return next((each for each in left if each.reason == "Succeeded"), left[0] if left else None)


def _outcome(container: Container) -> Outcome | None:
    if container.exit_code is None or not container.message:
        return None
    try:
        return Outcome.model_validate_json(container.message)
    except ValidationError:
        return None


def knows_its_end(pods: Iterable[Pod]) -> bool:
    """Whether a submitter found out how its Ray job ended; KubeRay then ends the RayJob."""
    return any(container.exit_code == 0 for pod in pods for container in pod.containers)
