"""The RayJob of an attempt, or of an evaluation with several workers."""

import math
from typing import Any

from tunesmith.api.pod import EVALUATE_ON_RAY_COMMAND, SUBMIT_COMMAND, TRAIN_COMMAND
from tunesmith.api.quantity import parse_quantity
from tunesmith_operator.builders.common import metadata
from tunesmith_operator.builders.pods import fixed_resources, pod_template, worker_resources
from tunesmith_operator.job import Run
from tunesmith_operator.names import QUEUE_LABEL
from tunesmith_operator.settings import Settings

_SUBMITTER_RETRIES = 3
"""A submitter that lost its connection finds the running job by its id."""
_CLUSTER_SECONDS_AFTER_END = 10
"""How long the pods stay for the operator to see what killed them."""
_HEAD_PORTS = [{"name": "gcs-server", "containerPort": 6379}, {"name": "dashboard", "containerPort": 8265}]
"""KubeRay names them itself only on a head that has no ports of its own, and waits for ever for a dashboard."""


def ray_job(run: Run, settings: Settings) -> dict[str, Any]:
    """A RayJob that trains or evaluates once; what follows a failure is the operator's to decide."""
    meta = metadata(run, run.name)
    spec: dict[str, Any] = {
        "jobId": run.name,
        "entrypoint": EVALUATE_ON_RAY_COMMAND if run.evaluation else TRAIN_COMMAND,
        "submissionMode": "K8sJobMode",
        "submitterConfig": {"backoffLimit": _SUBMITTER_RETRIES},
        "submitterPodTemplate": _submitter(run, settings),
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _CLUSTER_SECONDS_AFTER_END,
        "rayClusterSpec": _cluster(run, settings),
    }
    if run.job.queue:
        meta["labels"][QUEUE_LABEL] = run.job.queue
        spec["suspend"] = True  # from here on the queue's
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": meta, "spec": spec}


def _cluster(run: Run, settings: Settings) -> dict[str, Any]:
    """With one worker the head is that worker, with the memory of both; with more it runs none. The entrypoint runs on
    the head, and what it starts: `tunesmith track`."""
    workers, trains = run.workers, not run.evaluation
    if workers == 1:
        template = pod_template(
            run, settings, "head", worker_resources(run, settings.head.memory), metrics=True, tracks=True
        )
        template["spec"]["containers"][0]["ports"] += _HEAD_PORTS
        head = {"rayStartParams": _worker_params(run), "template": template}
    else:
        template = pod_template(run, settings, "head", fixed_resources(settings.head), tracks=True)
        head = {"rayStartParams": {"num-cpus": "0", "num-gpus": "0"}, "template": template}
    group = {
        "groupName": "workers",
        "replicas": workers,
        "minReplicas": workers,
        "maxReplicas": workers,
        "rayStartParams": _worker_params(run),
        "template": pod_template(run, settings, "worker", worker_resources(run), metrics=trains),
    }
    return {
        "rayVersion": settings.ray_version,
        "authOptions": {"mode": "token"},
        "headGroupSpec": head,
        "workerGroupSpecs": [group] if workers > 1 else [],
    }


def _worker_params(run: Run) -> dict[str, str]:
    """Said outright: KubeRay would derive them from limits, and Ray from the node."""
    wanted = run.job.spec.scaling.resources
    cpus = math.ceil(parse_quantity(wanted.cpu)) if wanted.cpu else 1
    return {"num-cpus": str(max(1, cpus)), "num-gpus": str(wanted.gpu or 0)}


def _submitter(run: Run, settings: Settings) -> dict[str, Any]:
    template = pod_template(run, settings, "submitter", fixed_resources(settings.submitter), SUBMIT_COMMAND)
    template["spec"]["restartPolicy"] = "Never"
    return template
