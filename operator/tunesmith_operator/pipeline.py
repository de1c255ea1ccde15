"""A pipeline that is fit to run, and the jobs of its stages as they are seen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self, get_args

from tunesmith.api.job import IMMUTABLE_FIELDS, FineTuneJobSpec
from tunesmith.api.pipeline import STAGES, RLHFPipelineSpec, StageName, stage_spec
from tunesmith.api.status import Condition, JobStatus
from tunesmith_operator.names import PART_HASH, QUEUE_LABEL, STAGE_LABEL, STAGE_NUMBER_LABEL, digest
from tunesmith_operator.observed import Object, Receivers, Refusal

_LIFE = ("suspend", "backoffLimit", "activeDeadlineSeconds")
"""What a change of does not make a failed stage worth another try."""


@dataclass(frozen=True)
class SeenPipeline:
    """Everything that a decision about one pipeline rests on."""

    body: Object
    now: datetime
    jobs: Mapping[str, Object]
    """Its FineTuneJobs by name."""
    refusal: Refusal | None = None
    """Why a job could not be made just now."""
    receivers: Receivers = field(default_factory=Receivers)
    """Those who hear of its end."""


@dataclass(frozen=True)
class Pipeline:
    """An RLHFPipeline whose spec is valid."""

    name: str
    namespace: str
    uid: str
    queue: str
    """The queue of Kueue that its jobs wait in; empty for none."""
    spec: RLHFPipelineSpec

    @classmethod
    def parse(cls, body: Object) -> Self:
        """Reads the object of the API server.

        Raises:
            pydantic.ValidationError: the spec is not valid.
        """
        meta = body["metadata"]
        queue = meta.get("labels", {}).get(QUEUE_LABEL, "")
        return cls(meta["name"], meta["namespace"], meta["uid"], queue, RLHFPipelineSpec.model_validate(body["spec"]))

    def part_hash(self, stage: StageName) -> str:
        """A hash of what decides a stage's job, whatever the jobs before it are called.

        Defaults are left out, so that a new release with more fields sees no difference where there is none.
        """
        spec = stage_spec(self.spec, stage, {name: f"job://{name}" for name in STAGES})
        fields = FineTuneJobSpec.model_validate(spec).model_dump(mode="json", exclude_defaults=True)
        kept = {name: value for name, value in fields.items() if name not in _LIFE}
        return digest(json.dumps(kept, sort_keys=True), 16)


@dataclass(frozen=True)
class StageJob:
    """The FineTuneJob of a stage."""

    name: str
    uid: str
    stage: StageName
    number: int
    part_hash: str
    is_deleted: bool
    """Somebody deleted it, and it is not gone yet."""
    spec: Mapping[str, Any]
    status: JobStatus

    @property
    def is_complete(self) -> bool:
        return self._holds("Complete") is not None

    @property
    def failure(self) -> Condition | None:
        """The condition that says why it failed for good."""
        return self._holds("Failed")

    @property
    def active_seconds(self) -> int:
        """How long its attempts have run that are over."""
        return sum(attempt.active_seconds or 0 for attempt in self.status.attempts)

    def _holds(self, kind: str) -> Condition | None:
        return next((c for c in self.status.conditions if (c.type, c.status) == (kind, "True")), None)


def stage_jobs(jobs: Mapping[str, Object]) -> list[StageJob]:
    """The jobs of a pipeline's stages; one that lost its labels is none."""
    return [_stage_job(body) for body in jobs.values() if _stage_of(body) in get_args(StageName)]


def _stage_of(body: Object) -> str:
    labels = body["metadata"].get("labels", {})
    return str(labels.get(STAGE_LABEL, "")) if str(labels.get(STAGE_NUMBER_LABEL, "")).isdecimal() else ""


def _stage_job(body: Object) -> StageJob:
    meta = body["metadata"]
    return StageJob(
        name=meta["name"],
        uid=meta["uid"],
        stage=meta["labels"][STAGE_LABEL],
        number=int(meta["labels"][STAGE_NUMBER_LABEL]),
        part_hash=meta.get("annotations", {}).get(PART_HASH, ""),
        is_deleted="deletionTimestamp" in meta,
        spec=body["spec"],
        status=JobStatus.model_validate(body.get("status") or {}),
    )


def later_spec(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a job's spec that may change while it runs, as the API server completes it."""
    whole = FineTuneJobSpec.model_validate(dict(wanted)).to_dict()
    return {name: value for name, value in whole.items() if name not in IMMUTABLE_FIELDS}
