"""A CloudEvent 1.0 in structured JSON: https://github.com/cloudevents/spec"""

from datetime import datetime
from typing import Any

from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent

from tunesmith.api.base import API_VERSION, Record
from tunesmith_operator.messages.summary import Summary, shortened

_MOST_ATTEMPTS = 10
_LONGEST_LINE = 256
_OF_ATTEMPT = ("number", "reason", "message", "counted", "activeSeconds")
_OF_STAGE = ("name", "job", "phase", "message")


def cloud_event(summary: Summary) -> tuple[str, bytes]:
    """Content type and body; far below the 64 KiB that every receiver takes."""
    plural = f"{summary.kind.lower()}s"
    attributes = {
        "specversion": "1.0",
        "id": summary.event,
        "source": f"/apis/{API_VERSION}/namespaces/{summary.namespace}/{plural}/{summary.name}",
        "type": f"dev.tunesmith.{summary.kind.lower()}.{summary.phase.lower()}",
        "subject": f"{summary.namespace}/{summary.name}",
        "time": datetime.fromisoformat(summary.ended),
        "datacontenttype": "application/json",
    }
    made = to_structured_event(CloudEvent(attributes, _data(summary)))
    return made.headers["content-type"], made.body


def _data(summary: Summary) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": summary.kind,
        "namespace": summary.namespace,
        "name": summary.name,
        "uid": summary.uid,
        "phase": summary.phase,
        "reason": summary.reason,
        "message": summary.message,
        "startTime": summary.started,
        "completionTime": summary.ended,
        "durationSeconds": summary.seconds,
        "gpuSeconds": summary.gpu_seconds,
        "artifacts": summary.artifacts.to_dict() if summary.artifacts is not None else None,
        "evaluation": summary.evaluation.to_dict() if summary.evaluation is not None else None,
    }
    if summary.kind == "FineTuneJob":
        found["attempts"] = [_row(each, _OF_ATTEMPT) for each in summary.attempts[-_MOST_ATTEMPTS:]]
    else:
        found["stages"] = [_row(each, _OF_STAGE) for each in summary.stages]
    return {name: value for name, value in found.items() if value is not None}


def _row(record: Record, told: tuple[str, ...]) -> dict[str, Any]:
    """Some of the fields, with what is long shortened."""
    row = {name: value for name, value in record.to_dict().items() if name in told}
    return row | ({"message": shortened(row["message"], _LONGEST_LINE)} if "message" in row else {})
