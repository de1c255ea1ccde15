"""What `tunesmith watch` tells of a job or pipeline: each thing once, whether the status or an event says it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tunesmith.cluster.client import Object
from tunesmith.cluster.words import figure, span

_OURS = ("AttemptStarted", "AttemptFailed", "StageStarted", "StageSucceeded", "StageFailed")
"""Events that the status tells, too."""


@dataclass(frozen=True)
class Line:
    """Something that happened."""

    when: datetime
    word: str
    text: str
    is_bad: bool = False


class Story:
    """Turns each look at the status, and each event, into the lines that are new."""

    def __init__(self) -> None:
        self._told = set[tuple[str, str]]()
        self._seen = False

    def status(self, body: Object, now: datetime) -> list[Line]:
        """What a look at the object shows that was not told yet, in the order of its time.

        Args:
            body: the job or pipeline.
            now: the time of what is new; what was before has its own.
        """
        status = body.get("status") or {}
        first, self._seen = not self._seen, True
        lines = self._new([*_attempts(status), *_stages(status, now), *_conditions(status)])
        lines.sort(key=lambda line: (line.when, line.word == "Failed"))
        # times in a status are whole seconds, and that of a condition is its last transition's
        return lines if first else [replace(line, when=now) for line in lines]

    def event(self, body: Object) -> list[Line]:
        """What an event tells that was not told yet: a line, or none."""
        reason = body.get("reason", "")
        if reason in _OURS:
            return []
        when = _time(body.get("lastTimestamp") or body.get("eventTime") or body["metadata"]["creationTimestamp"])
        return self._new([Line(when, reason, body.get("message", ""), body.get("type") == "Warning")])

    def _new(self, lines: list[Line]) -> list[Line]:
        new = []
        for line in lines:
            # the event of a failure has the reason in its text, the condition in front of it
            word, text = line.word, line.text.removeprefix(f"{line.word}: ")
            if word == "Failed" and ": " in text:
                word, _, text = text.partition(": ")
            if (word, text) not in self._told:
                self._told.add((word, text))
                new.append(line)
        return new


def _conditions(status: Mapping[str, Any]) -> Iterator[Line]:
    """The conditions in their operator's words; the end first, since others say then what it says."""
    for each in sorted(status.get("conditions") or (), key=lambda condition: condition["type"] != "Failed"):
        reason, kind, holds = each.get("reason", ""), each["type"], each["status"] == "True"
        if kind == "Running" and reason == "Succeeded":
            continue  # which `Trained` tells
        word = kind if reason == "Succeeded" else reason
        if kind == "Failed" and holds:
            word = "Failed"
        text = each.get("message", "")
        text = f"{reason}: {text}" if word == "Failed" else text
        yield Line(_time(each["lastTransitionTime"]), word, text, kind == "Failed" and holds)


def _attempts(status: Mapping[str, Any]) -> Iterator[Line]:
    for each in status.get("attempts") or ():
        changed = _overrides(each.get("overrides") or {})
        started = f"attempt {each['number']} runs as RayJob {each['rayJob']}{changed}"
        yield Line(_time(each["startTime"]), "AttemptStarted", started)
        if each.get("endTime") and each.get("reason") != "Succeeded":  # which `Trained` tells
            ended = f"attempt {each['number']} ended with {each.get('reason')}: {each.get('message', '')}"
            yield Line(_time(each["endTime"]), "AttemptFailed", ended.removesuffix(": "), True)


def _overrides(overrides: Mapping[str, Any]) -> str:
    parts = []
    if size := overrides.get("microBatchSize"):
        parts.append(f"microBatchSize {size}")
    if (scale := overrides.get("learningRateScale", 1)) != 1:
        parts.append(f"learningRate times {scale:g}")
    return f", with {' and '.join(parts)}" if parts else ""


def _stages(status: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    for each in status.get("stages") or ():
        if each.get("phase") and each.get("job"):
            message = f": {each['message']}" if each.get("message") else ""
            yield Line(
                now, f"Stage {each['name']}", f"{each['job']} {each['phase']}{message}", each["phase"] == "Failed"
            )


@dataclass(frozen=True)
class Position:
    """How far the training is that runs now."""

    what: str
    """Of a pipeline the stage."""
    percentage: int
    text: str


def position(body: Object) -> Position | None:
    """Where the training stands; None while there is none."""
    status = body.get("status") or {}
    stage = next((s for s in status.get("stages") or () if s.get("phase") == "Training"), None)
    progress = (stage or status).get("progress")
    if not progress or (stage is None and status.get("phase") != "Training"):
        return None
    parts = [f"step {progress['step']:,} of {progress['totalSteps']:,}"]
    parts += [
        f"{name} {figure(progress[field], form)}{unit}"
        for name, field, form, unit in (
            ("loss", "loss", ".4f", ""),
            ("validation", "validationLoss", ".4f", ""),
            ("reward", "reward", ".3f", ""),
            ("", "tokensPerSecond", ",.0f", " tokens/s"),
        )
        if progress.get(field) is not None
    ]
    if progress.get("remainingSeconds") is not None:
        parts.append(f"{span(progress['remainingSeconds'])} left")
    text = ", ".join(part.strip() for part in parts)
    return Position(stage["name"] if stage else "training", progress["percentage"], text)


def _time(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)
