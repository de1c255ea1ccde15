"""A cluster in a few dicts: it takes what a plan asks for, and plays Ray's part when a test says so."""

import copy
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tunesmith.api.outcome import Outcome
from tunesmith.api.status import JobStatus, Progress
from tunesmith_operator import observed
from tunesmith_operator.names import ATTEMPT_LABEL, COMPONENT_LABEL, UID_LABEL
from tunesmith_operator.observed import Answer, Observed, Receivers, Refusal, Try
from tunesmith_operator.reconcile import reconcile
from tunesmith_operator.reconcile.plan import Event, Plan
from tunesmith_operator.settings import Settings

UID = "0123456789abcdef"
START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings(image="trainer:1", storage_claim="runs")
SPEC: dict[str, Any] = {
    "model": {"source": "hf://org/model"},
    "dataset": {"train": {"source": "hf://org/data"}, "test": {"source": "configmap://tests/rows.jsonl"}},
    "objective": {"instruction": {}},
    "method": {"full": {}},
}


def job(name: str = "tune", uid: str = UID, status: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A FineTuneJob as the API server returns it."""
    meta = {"name": name, "namespace": "team", "uid": uid, "generation": 1, "resourceVersion": "1"}
    body = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": meta, "spec": SPEC | spec}
    return copy.deepcopy(body | ({"status": dict(status)} if status else {}))


def text(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class World:
    """One job, its children, and the clock."""

    def __init__(self, **spec: Any) -> None:
        self.settings = SETTINGS
        self.body = job(**spec)
        self.now = START
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.others: dict[str, Any] = {}
        self.missing: set[str] = set()
        self.progress: Progress | None = None
        self.refusal: Refusal | None = None
        self.webhooks: set[str] = set()
        self.answers: dict[Try, Answer] = {}
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.events: list[Event] = []
        self.plan = Plan()

    def look(self) -> "World":
        """Looks once, and does what the plan asks for, as the controller would."""
        self.plan = reconcile(self._observed(), self.settings)
        if self.plan.lookups:
            references = {reference: reference.name not in self.missing for reference in self.plan.lookups}
            self.plan = reconcile(self._observed(references=references), self.settings)
        for child in self.plan.create:
            self._create(child)
        self.events += self.plan.events
        if self.plan.status is not None:
            self.body["status"] = self.plan.status.to_dict()
        for gone in self.plan.delete:
            self.deleted.append(f"{gone.kind} {gone.name}")
            del self.objects[gone.kind, gone.name]
        return self

    def looks(self) -> "World":
        """Looks until there is nothing left to do at this moment."""
        for _ in range(10):
            self.look()
            if self.idle:
                return self
        raise AssertionError("it never comes to rest")

    @property
    def idle(self) -> bool:
        return not (
            self.plan.create or self.plan.delete or self.plan.status or self.plan.events or self.plan.delete_itself
        )

    @property
    def status(self) -> JobStatus:
        return JobStatus.model_validate(self.body.get("status", {}))

    @property
    def phase(self) -> str:
        return self.status.phase or ""

    @property
    def told(self) -> list[str]:
        return [event.reason for event in self.events]

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        return next(((c.status, c.reason) for c in self.status.conditions if c.type == kind), ("", ""))

    def message(self, kind: str) -> str:
        return next((c.message for c in self.status.conditions if c.type == kind), "")

    # What happens in the cluster.

    def later(self, seconds: float) -> "World":
        self.now += timedelta(seconds=seconds)
        return self

    def spec(self, **changes: Any) -> "World":
        """Somebody edits the spec; None removes a field."""
        self.body["spec"] = {k: v for k, v in (self.body["spec"] | changes).items() if v is not None}
        self.body["metadata"]["generation"] += 1
        return self

    def ray(self, **status: Any) -> "World":
        """KubeRay writes the status of the newest RayJob."""
        newest = [body for (kind, _), body in self.objects.items() if kind == "RayJob"][-1]
        newest["status"] = newest.get("status", {}) | status
        return self

    def trains(self) -> "World":
        return self.ray(jobDeploymentStatus="Running", jobStatus="RUNNING", startTime=text(self.now))

    def pod(self, component: str, name: str = "", attempt: int = 0, **status: Any) -> "World":
        """A pod is there, in this state."""
        number = attempt or self.status.attempts[-1].number
        name = name or f"{component}-{number}"
        labels = {UID_LABEL: UID, ATTEMPT_LABEL: str(number), COMPONENT_LABEL: component}
        meta = {"name": name, "namespace": "team", "uid": name, "resourceVersion": "1", "labels": labels}
        meta["creationTimestamp"] = text(self.now)
        self.objects["Pod", name] = {"metadata": meta, "status": {"phase": "Running", "podIP": "10.0.0.1"} | status}
        return self

    def container(self, component: str, attempt: int = 0, **state: Any) -> "World":
        """A pod is there, and this is its container's state."""
        placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": text(self.now)}
        return self.pod(component, attempt=attempt, containerStatuses=[state], conditions=[placed])

    def waits(self, component: str, reason: str, message: str = "") -> "World":
        """A pod's container does not start."""
        return self.container(component, state={"waiting": {"reason": reason, "message": message}})

    def ends(self, component: str, outcome: Outcome | None = None, exit_code: int = 0, attempt: int = 0) -> "World":
        """A pod ends and leaves its message."""
        left = outcome.to_termination_message() if outcome else ""
        self.container(component, attempt, state={"terminated": {"exitCode": exit_code, "message": left}})
        name = f"{component}-{attempt or self.status.attempts[-1].number}"
        self.objects["Pod", name]["status"]["phase"] = "Failed" if exit_code else "Succeeded"
        return self

    def tells(self, reason: str, message: str = "it says why", **fields: Any) -> "World":
        """The submitter leaves an outcome, and KubeRay ends the RayJob."""
        self.ends("submitter", Outcome.model_validate({"reason": reason, "message": message} | fields))
        done = "SUCCEEDED" if reason == "Succeeded" else "FAILED"
        return self.ray(jobDeploymentStatus="Complete", jobStatus=done, endTime=text(self.now))

    def releases(self) -> "World":
        """KubeRay takes the training pods away."""
        gone = ("head", "worker")
        self.objects = {
            key: body
            for key, body in self.objects.items()
            if body["metadata"]["labels"].get(COMPONENT_LABEL) not in gone
        }
        return self

    def loses(self, kind: str, name: str) -> "World":
        """Somebody deletes an object."""
        del self.objects[kind, name]
        return self

    def _create(self, child: Mapping[str, Any]) -> None:
        name = child["metadata"]["name"]
        assert (child["kind"], name) not in self.objects, f"{name} is made twice"
        self.created.append(f"{child['kind']} {name}")
        meta = {"uid": f"uid-of-{name}", "resourceVersion": "1", "creationTimestamp": text(self.now)}
        body = copy.deepcopy(dict(child))
        body["metadata"] = dict(body["metadata"]) | meta
        self.objects[child["kind"], name] = body

    def _observed(self, **more: Any) -> Observed:
        def facts(kind: str, parse: Callable[[Any], Any]) -> dict[str, Any]:
            return {name: parse(body) for (k, name), body in self.objects.items() if k == kind}

        return Observed(
            body=copy.deepcopy(self.body),
            now=self.now,
            config_maps=facts("ConfigMap", observed.config_map),
            ray_jobs=facts("RayJob", observed.ray_job),
            evaluation_jobs=facts("Job", observed.evaluation_job),
            pods=facts("Pod", observed.pod),
            jobs=self.others | {self.body["metadata"]["name"]: self.body},
            progress=self.progress,
            refusal=self.refusal,
            receivers=Receivers(frozenset(self.webhooks), self.answers),
            **more,
        )
