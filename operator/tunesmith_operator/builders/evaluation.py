"""The Job that evaluates a model, where one worker does it."""

from typing import Any

from tunesmith.api.pod import EVALUATE_COMMAND
from tunesmith_operator.builders.common import metadata
from tunesmith_operator.builders.pods import pod_template, worker_resources
from tunesmith_operator.job import Run
from tunesmith_operator.settings import Settings

_RETRIES = 2


def evaluation_job(run: Run, settings: Settings) -> dict[str, Any]:
    """One pod with the resources of one worker; an eviction of it does not count as a failure."""
    template = pod_template(run, settings, "evaluation", worker_resources(run), EVALUATE_COMMAND, tracks=True)
    template["spec"]["restartPolicy"] = "Never"
    evicted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(run, run.name),
        "spec": {"backoffLimit": _RETRIES, "podFailurePolicy": {"rules": [evicted]}, "template": template},
    }
