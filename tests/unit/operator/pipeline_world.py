"""A pipeline and its jobs in a few dicts: it takes what a plan asks for, and plays the jobs' part when a test says."""

import copy
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.pipeline_status import PipelineStatus, StageStatus
from tunesmith_operator.merge import merge_patch
from tunesmith_operator.observed import Answer, Receivers, Refusal, Try
from tunesmith_operator.pipeline import SeenPipeline
from tunesmith_operator.reconcile.pipeline import reconcile_pipeline
from tunesmith_operator.reconcile.plan import Event, Plan

from .world import SETTINGS, START, text

UID = "fedcba9876543210"
SPEC: dict[str, Any] = {
    "model": {"source": "hf://org/model"},
    "sft": {"dataset": {"train": {"source": "hf://org/answers"}}, "method": {"lora": {}}},
    "reward": {"dataset": {"train": {"source": "hf://org/pairs"}}, "method": {"lora": {}}},
    "ppo": {"dataset": {"train": {"source": "hf://org/prompts"}}, "method": {"lora": {}}},
}


def pipeline(name: str = "helpful", **spec: Any) -> dict[str, Any]:
    """An RLHFPipeline as the API server returns it; a part of None is left out."""
    meta = {"name": name, "namespace": "team", "uid": UID, "generation": 1, "resourceVersion": "1"}
    whole = {part: value for part, value in (SPEC | spec).items() if value is not None}
    body = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "RLHFPipeline", "metadata": meta, "spec": whole}
    return copy.deepcopy(body)


def condition(kind: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": text(START)}


class PipelineWorld:
    """One pipeline, its jobs, and the clock."""

    def __init__(self, **spec: Any) -> None:
        self.body = pipeline(**spec)
        self.now = START
        self.jobs: dict[str, dict[str, Any]] = {}
        self.refusal: Refusal | None = None
        self.webhooks: set[str] = set()
        self.answers: dict[Try, Answer] = {}
        self.created: list[str] = []
        self.changed: list[tuple[str, Mapping[str, Any]]] = []
        self.deleted: list[str] = []
        self.events: list[Event] = []
        self.plan = Plan()

    def look(self) -> "PipelineWorld":
        """Looks once, and does what the plan asks for, as the controller would."""
        self.plan = self._decide(None)
        if self.plan.create and self.refusal is not None:
            self.plan = self._decide(self.refusal)
        for child in self.plan.create:
            self._create(child)
        for change in self.plan.change:
            self.changed.append((change.name, change.patch))
            self.jobs[change.name]["spec"] = merged(self.jobs[change.name]["spec"], change.patch)
        self.events += self.plan.events
        if self.plan.status is not None:
            self.body["status"] = self.plan.status.to_dict()
        for gone in self.plan.delete:
            self.deleted.append(gone.name)
            del self.jobs[gone.name]
        return self

    def looks(self) -> "PipelineWorld":
        """Looks until there is nothing left to do at this moment."""
        for _ in range(10):
            self.look()
            plan = self.plan
            if not (plan.create or plan.change or plan.delete or plan.status or plan.events or plan.delete_itself):
                return self
        raise AssertionError("it never comes to rest")

    def _decide(self, refusal: Refusal | None) -> Plan:
        receivers = Receivers(frozenset(self.webhooks), self.answers)
        seen = SeenPipeline(copy.deepcopy(self.body), self.now, copy.deepcopy(self.jobs), refusal, receivers)
        return reconcile_pipeline(seen, SETTINGS)

    def _create(self, child: Mapping[str, Any]) -> None:
        """The API server completes the defaults."""
        name = child["metadata"]["name"]
        assert name not in self.jobs, f"{name} is made twice"
        self.created.append(name)
        meta = child["metadata"] | {"uid": f"uid-of-{name}", "resourceVersion": "1"}
        spec = FineTuneJobSpec.model_validate(dict(child["spec"])).to_dict()
        self.jobs[name] = {"metadata": meta, "spec": spec, "status": {}}

    @property
    def status(self) -> PipelineStatus:
        return PipelineStatus.model_validate(self.body.get("status", {}))

    @property
    def phase(self) -> str:
        return self.status.phase or ""

    @property
    def message(self) -> str:
        return self.status.message or ""

    @property
    def told(self) -> list[str]:
        return [event.reason for event in self.events]

    def line(self, stage: str) -> StageStatus:
        return next(line for line in self.status.stages if line.name == stage)

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        return next(((c.status, c.reason) for c in self.status.conditions if c.type == kind), ("", ""))

    # What happens in the cluster.

    def later(self, seconds: float) -> "PipelineWorld":
        self.now += timedelta(seconds=seconds)
        return self

    def spec(self, **changes: Any) -> "PipelineWorld":
        """Somebody edits the spec; None removes a field."""
        self.body["spec"] = {k: v for k, v in (self.body["spec"] | changes).items() if v is not None}
        self.body["metadata"]["generation"] += 1
        return self

    def trains(self, name: str, percentage: int = 50) -> "PipelineWorld":
        progress = {"step": percentage, "totalSteps": 100, "percentage": percentage}
        self.jobs[name]["status"] |= {"phase": "Training", "message": "", "progress": progress}
        return self

    def succeeds(self, name: str, seconds: int = 0, **status: Any) -> "PipelineWorld":
        """The operator writes this into the job's status at its end."""
        artifacts = {"folder": f"pvc://runs/team/{name}", "model": f"pvc://runs/team/{name}/model"}
        ended: dict[str, Any] = {"phase": "Succeeded", "message": "the model is ready", "artifacts": artifacts}
        ended["conditions"] = [condition("Complete", "Succeeded", "the model is ready")]
        ended["attempts"] = [attempt(seconds)]
        self.jobs[name]["status"] = ended | status
        return self

    def fails(
        self, name: str, reason: str = "InvalidInput", message: str = "no rows", seconds: int = 0
    ) -> "PipelineWorld":
        ended: dict[str, Any] = {"phase": "Failed", "message": message}
        ended["conditions"] = [condition("Failed", reason, message)]
        self.jobs[name]["status"] = ended | {"attempts": [attempt(seconds)]}
        return self

    def loses(self, name: str) -> "PipelineWorld":
        """Somebody deletes a job."""
        del self.jobs[name]
        return self

    def runs_to(self, stage: str) -> "PipelineWorld":
        """All stages before one have succeeded, and it has begun."""
        for name in ("sft", "reward", "ppo"):
            self.looks()
            if name == stage:
                return self
            self.succeeds(f"helpful-{name}")
        raise AssertionError(stage)


def attempt(seconds: int) -> dict[str, Any]:
    return {"number": 1, "rayJob": "some", "startTime": text(START), "activeSeconds": seconds}


def merged(before: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(before) if isinstance(before, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    assert merge_patch(result, result) == {}
    return result
