"""Plays KubeRay, Ray and the kubelet: writes the statuses that they would write."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from tunesmith.api.outcome import EvaluationResult, Interval, MetricResult, Outcome
from tunesmith.api.pod import EVALUATE_ON_RAY_COMMAND

from ..kube import Kube, KubeError, Object

RAY = ("ray.io/v1", "RayJob")
JOB = ("tunesmith.dev/v1alpha1", "FineTuneJob")
PIPELINE = ("tunesmith.dev/v1alpha1", "RLHFPipeline")
Outcomes = Callable[[int], Outcome]
"""What the submitter of an attempt reports."""

RESULT = EvaluationResult(
    rows=10, metrics=[MetricResult(name="perplexity", tuned=Interval(value=2.0, low=1.5, high=2.5))]
)

EVALUATED = Outcome(reason="Succeeded", evaluation=RESULT)
GATE_FAILED = Outcome(reason="GateFailed", message="perplexity is 2, but should be at most 1", evaluation=RESULT)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fine_tune_job(name: str, namespace: str, **spec: Any) -> Object:
    """A small job, with an evaluation."""
    whole: dict[str, Any] = {
        "model": {"source": "hf://org/model"},
        "dataset": {"train": {"source": "hf://org/data"}, "test": {"source": "hf://org/data", "split": "test"}},
        "objective": {"causalLM": {}},
        "method": {"full": {}},
        "training": {"microBatchSize": 8},
        "evaluation": {"metrics": ["perplexity"]},
    }
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": JOB[0], "kind": JOB[1], "metadata": meta, "spec": whole | spec}


def evaluation_alone(name: str, namespace: str, workers: int) -> Object:
    """A job that trains nothing."""
    spec = {
        "model": {"source": "hf://org/model"},
        "dataset": {"test": {"source": "hf://org/data", "split": "test"}},
        "evaluation": {"metrics": ["perplexity"], "workers": workers, "gates": [{"metric": "perplexity", "atMost": 1}]},
    }
    return {"apiVersion": JOB[0], "kind": JOB[1], "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def rlhf_pipeline(name: str, namespace: str, **spec: Any) -> Object:
    """A small pipeline, with an evaluation of the policy."""
    whole: dict[str, Any] = {
        "model": {"source": "hf://org/model"},
        "sft": {"dataset": {"train": {"source": "hf://org/answers"}}, "method": {"lora": {}}},
        "reward": {"dataset": {"train": {"source": "hf://org/pairs"}}, "method": {"lora": {}}},
        "ppo": {
            "dataset": {
                "train": {"source": "hf://org/prompts"},
                "test": {"source": "hf://org/prompts", "split": "test"},
            },
            "method": {"lora": {}},
        },
        "evaluation": {"metrics": ["winRate"]},
    }
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": PIPELINE[0], "kind": PIPELINE[1], "metadata": meta, "spec": whole | spec}


def claim(namespace: str, name: str = "runs") -> Object:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def succeeded(attempt: int) -> Outcome:
    """An attempt that trains well."""
    return Outcome(reason="Succeeded", attempt=attempt, step=10, total_steps=10, metrics={"loss": 0.5})


def no_rows(attempt: int) -> Outcome:
    """An attempt that can never work."""
    return Outcome(reason="InvalidInput", message="spec.dataset.train: there are no rows", attempt=attempt)


def out_of_memory_first(attempt: int) -> Outcome:
    """The first attempt needs a smaller micro-batch."""
    return Outcome(reason="OutOfMemory", message="no room", attempt=attempt) if attempt == 1 else succeeded(attempt)


def lost_once_then_a_failed_gate(attempt: int) -> Outcome:
    """An evaluation whose first try loses its node, and whose second measures too little."""
    if attempt == 1:
        return Outcome(reason="WorkerLost", message="a node went away", attempt=attempt)
    return GATE_FAILED


class Ray:
    """Takes every job of a namespace one step further each time it is asked; what it does depends on nothing but what
    it sees.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        outcomes: Outcomes = succeeded,
        stops_before: Literal["training", "the outcome", "the evaluation", ""] = "",
        hopeless: tuple[str, ...] = (),
        evaluated: Outcome = EVALUATED,
    ) -> None:
        """`hopeless` are the jobs that fail for good; `evaluated` is what an evaluation in a pod leaves."""
        self._kube, self._namespace, self._outcomes, self._stops_before = kube, namespace, outcomes, stops_before
        self._hopeless, self._evaluated = hopeless, evaluated

    def step(self) -> None:
        """Looks around once and does what is next."""
        for job in self._kube.list(*RAY, self._namespace) if self._stops_before != "training" else []:
            if job["metadata"].get("deletionTimestamp"):
                continue
            status = job.get("status", {})
            if not status.get("jobStatus"):
                self.train(job)
            elif self._stops_before == "the outcome":
                continue
            elif status["jobStatus"] == "RUNNING" and (is_evaluation(job) or self._is_training(job)):
                labels = job["metadata"]["labels"]
                attempt = int(labels["tunesmith.dev/attempt"])
                fails = labels["tunesmith.dev/job"] in self._hopeless
                self.finish(job, no_rows(attempt) if fails else self._outcomes(attempt))
        if self._stops_before == "the evaluation":
            return
        for pod in self._kube.list("v1", "Pod", self._namespace, "tunesmith.dev/component=evaluation"):
            if pod["status"].get("phase") == "Pending" and not pod["metadata"].get("deletionTimestamp"):
                self.leave(pod, self._evaluated)

    def train(self, job: Object) -> None:
        """KubeRay has made the cluster and Ray runs the job."""
        self.write(job, jobDeploymentStatus="Running", jobStatus="RUNNING", startTime=now())

    def finish(self, job: Object, outcome: Outcome) -> None:
        """The submitter leaves the outcome, then KubeRay ends the RayJob."""
        done = "SUCCEEDED" if outcome.reason == "Succeeded" else "FAILED"
        self.leave(self.pod(job, "submitter"), outcome)
        self.write(job, jobDeploymentStatus="Complete", jobStatus=done, endTime=now())

    def write(self, job: Object, **status: Any) -> None:
        """KubeRay writes the RayJob's status."""
        meta = job["metadata"]
        self._ignoring_absence(lambda: self._kube.patch_status(*RAY, meta["name"], status, meta["namespace"]))

    def pod(self, job: Object, component: str) -> Object:
        """A pod of the RayJob's, as KubeRay makes it; it is owned by the RayJob, so it goes with it."""
        spec = job["spec"]
        templates = {
            "submitter": lambda: spec["submitterPodTemplate"],
            "head": lambda: spec["rayClusterSpec"]["headGroupSpec"]["template"],
        }
        template, meta = templates[component](), job["metadata"]
        name = f"{meta['name']}-{component}"
        owner = {"apiVersion": RAY[0], "kind": RAY[1], "name": meta["name"], "uid": meta["uid"]}
        made = {"name": name, "namespace": meta["namespace"], "labels": template["metadata"]["labels"]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": made | {"ownerReferences": [owner]}}
        try:
            return self._kube.create(body | {"spec": template["spec"]})
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
            return self._kube.get("v1", "Pod", name, meta["namespace"])

    def leave(self, pod: Object, outcome: Outcome) -> None:
        """The kubelet reports that the pod has ended well, with this message."""
        ended = {"exitCode": 0, "message": outcome.to_termination_message(), "finishedAt": now(), "startedAt": now()}
        self.show(pod, {"terminated": ended}, phase="Succeeded")

    def show(self, pod: Object, state: Mapping[str, Any], **status: Any) -> None:
        """The kubelet reports a pod's container in this state."""
        container = pod["spec"]["containers"][0]
        shown = {"name": container["name"], "state": state, "ready": False, "restartCount": 0}
        shown |= {"image": container["image"], "imageID": ""}
        meta = pod["metadata"]
        written = {"containerStatuses": [shown]} | status
        self._ignoring_absence(lambda: self._kube.patch_status("v1", "Pod", meta["name"], written, meta["namespace"]))

    def _is_training(self, job: Object) -> bool:
        """Whether the operator has seen it run: a story without that is another story."""
        name = job["metadata"]["labels"]["tunesmith.dev/job"]
        owner = self._kube.find(*JOB, name, self._namespace)
        status = (owner or {}).get("status", {})
        current = (status.get("attempts") or [{}])[-1].get("rayJob") == job["metadata"]["name"]
        return bool(current) and status.get("phase") == "Training"

    def _ignoring_absence(self, write: Callable[[], object]) -> None:
        try:
            write()
        except KubeError as error:
            if error.status != 404:
                raise


def is_evaluation(job: Object) -> bool:
    """Whether a RayJob evaluates."""
    return bool(job["spec"]["entrypoint"] == EVALUATE_ON_RAY_COMMAND)


def told(kube: Kube, namespace: str, job: str) -> list[str]:
    """The reasons of a job's or pipeline's events, in the order of their time and name."""
    events = [e for e in kube.list("v1", "Event", namespace) if e["involvedObject"].get("name") == job]
    mine = [event for event in events if event["involvedObject"]["kind"] in (JOB[1], PIPELINE[1])]
    assert all(event["count"] == 1 for event in mine)
    return sorted(event["reason"] for event in mine)


def children(kube: Kube, namespace: str, uid: str) -> dict[str, list[str]]:
    """The names of a job's children by kind."""
    kinds = (("v1", "ConfigMap"), RAY, ("batch/v1", "Job"))
    return {
        kind: sorted(
            each["metadata"]["name"] for each in kube.list(api, kind, namespace, f"tunesmith.dev/job-uid={uid}")
        )
        for api, kind in kinds
    }


def run_config(kube: Kube, namespace: str, name: str) -> Any:
    """What an attempt's ConfigMap tells the trainer."""
    return json.loads(kube.get("v1", "ConfigMap", name, namespace)["data"]["run.json"])
