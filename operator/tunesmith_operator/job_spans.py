"""The spans of attempts, jobs and pipelines, told when they are over: in between an operator may be started anew."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from tunesmith.api.pipeline_status import PipelineStatus
from tunesmith.api.spans import Finished
from tunesmith.api.status import JobStatus
from tunesmith_operator.observed import Object
from tunesmith_operator.trace_ids import attempt_span, owner_span, pipeline_span

_NO_ERRORS = ("Succeeded", "Suspended")


def ended(body: Object, before: Mapping[str, Any], after: JobStatus | PipelineStatus) -> Iterator[Finished]:
    """What is over by a change of a status; a restart may miss a span, not tell one twice.

    Args:
        body: the job or the pipeline.
        before: its status as data.
        after: its status.
    """
    meta, kind = body["metadata"], body["kind"]
    about = {"k8s.namespace.name": meta["namespace"], "tunesmith.job": meta["name"], "tunesmith.kind": kind}
    if isinstance(after, JobStatus):
        over = {attempt["number"] for attempt in before.get("attempts", ()) if attempt.get("endTime")}
        for attempt in after.attempts:
            if attempt.end_time and attempt.number not in over:
                reason = attempt.reason or ""
                yield Finished(
                    "attempt",
                    attempt_span(body, attempt.number),
                    owner_span(body),
                    _seconds(attempt.start_time),
                    _seconds(attempt.end_time),
                    about | {"tunesmith.attempt": attempt.number, "tunesmith.reason": reason},
                    None if reason in _NO_ERRORS else reason,
                )
    if after.completion_time and not before.get("completionTime"):
        phase = after.phase or ""
        yield Finished(
            "job" if isinstance(after, JobStatus) else "pipeline",
            owner_span(body),
            pipeline_span(body),
            _seconds(meta["creationTimestamp"]),
            _seconds(after.completion_time),
            about | {"tunesmith.phase": phase},
            None if phase == "Succeeded" else _why_failed(after),
        )


def _why_failed(status: JobStatus | PipelineStatus) -> str:
    return next((each.reason for each in status.conditions if each.type == "Failed" and each.status == "True"), "")


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
