"""What is told of a job, each thing once."""

from datetime import UTC, datetime
from typing import Any

from tunesmith.cluster.story import Story, position

NOW = datetime(2026, 11, 27, 10, 0, tzinfo=UTC)
EARLIER = "2026-11-27T09:00:00Z"


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": EARLIER}


def event(reason: str, message: str, kind: str = "Normal") -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": EARLIER}, "reason": reason, "message": message, "type": kind}


def failed() -> dict[str, Any]:
    conditions = [
        condition("Running", "False", "InvalidInput", "no rows"),
        condition("Failed", "True", "InvalidInput", "no rows"),
    ]
    return {"status": {"conditions": conditions}}


def test_what_the_status_told_an_event_tells_not_again() -> None:
    story = Story()
    told = [(line.word, line.text) for line in story.status(failed(), NOW)]
    assert told == [("Failed", "InvalidInput: no rows")]
    assert story.status(failed(), NOW) == []
    assert story.event(event("Failed", "InvalidInput: no rows", "Warning")) == []
    assert [line.text for line in story.event(event("PodDisrupted", "node gone", "Warning"))] == ["node gone"]
    assert story.event(event("PodDisrupted", "node gone", "Warning")) == []


def test_what_was_before_has_its_own_time_and_what_is_new_has_now() -> None:
    story = Story()
    first = story.status({"status": {"conditions": [condition("Validated", "True", "Valid")]}}, NOW)
    assert [line.when.isoformat() for line in first] == ["2026-11-27T09:00:00+00:00"]
    assert [line.when for line in story.status(failed(), NOW)] == [NOW]


def test_a_job_without_progress_has_no_position() -> None:
    assert position({}) is None
    done = {"step": 10, "totalSteps": 10, "percentage": 100}
    assert position({"status": {"phase": "Evaluating", "progress": done}}) is None
    found = position({"status": {"phase": "Training", "progress": done}})
    assert found is not None
    assert found.text == "step 10 of 10"
