"""What there is to tell of the end of a job or pipeline; nothing of it is secret, all of it is bounded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tunesmith.api.gpus import requested_gpus
from tunesmith.api.notification import End
from tunesmith.api.outcome import Artifacts, EvaluationResult
from tunesmith.api.pipeline_status import PipelineStatus, StageStatus
from tunesmith.api.status import Attempt, JobStatus
from tunesmith_operator.observed import Object

_LONGEST_MESSAGE = 1024
_MOST_METRICS = 20


@dataclass(frozen=True)
class Summary:
    """The end of a job or pipeline."""

    event: str
    """Its id."""
    kind: Literal["FineTuneJob", "RLHFPipeline"]
    namespace: str
    name: str
    uid: str
    phase: End
    reason: str
    message: str
    started: str | None
    """RFC 3339, as below."""
    ended: str
    seconds: int | None
    """From the start to the end, queueing and suspension included."""
    gpu_seconds: int
    """The requested GPUs times the seconds that attempts have run."""
    attempts: tuple[Attempt, ...]
    """Those of a job."""
    stages: tuple[StageStatus, ...]
    """Those of a pipeline."""
    artifacts: Artifacts | None
    evaluation: EvaluationResult | None


def summarize(event: str, body: Object, status: JobStatus | PipelineStatus, jobs: Iterable[Object]) -> Summary:
    """The summary of a job or pipeline that is over.

    Args:
        event: the id of the end.
        body: the object, for its names.
        status: with phase and completionTime.
        jobs: the FineTuneJobs that ran for it: the job itself, or the stages' ones.
    """
    meta, phase = body["metadata"], status.phase
    assert status.completion_time is not None
    assert phase == "Succeeded" or phase == "Failed"
    ending = "Complete" if phase == "Succeeded" else "Failed"
    reason = next((c.reason for c in status.conditions if (c.type, c.status) == (ending, "True")), phase)
    seconds = None
    if status.start_time is not None:
        lasted = datetime.fromisoformat(status.completion_time) - datetime.fromisoformat(status.start_time)
        seconds = max(0, round(lasted.total_seconds()))
    evaluation = status.evaluation
    return Summary(
        event=event,
        kind=body["kind"],
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        phase=phase,
        reason=reason,
        message=shortened(status.message or "", _LONGEST_MESSAGE),
        started=status.start_time,
        ended=status.completion_time,
        seconds=seconds,
        gpu_seconds=sum(_gpu_seconds(job) for job in jobs),
        attempts=tuple(status.attempts) if isinstance(status, JobStatus) else (),
        stages=tuple(status.stages) if isinstance(status, PipelineStatus) else (),
        artifacts=status.artifacts,
        evaluation=evaluation.first(_MOST_METRICS)
        if evaluation and len(evaluation.metrics) > _MOST_METRICS
        else evaluation,
    )


def _gpu_seconds(job: Mapping[str, Any]) -> int:
    attempts = (job.get("status") or {}).get("attempts", ())
    return requested_gpus(job["spec"]) * sum(attempt.get("activeSeconds") or 0 for attempt in attempts)


def shortened(text: str, longest: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
