"""A decision in the making: the status as it should be, and what must be done for it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, get_args

from tunesmith.api.outcome import Artifacts, EvaluationResult
from tunesmith.api.status import Attempt, Condition, ConditionType, JobStatus, Phase, Progress
from tunesmith_operator.observed import Reference
from tunesmith_operator.reconcile.plan import ChildKind, Deletion, Event, Plan

_KEPT_ATTEMPTS = 100


def timestamp(when: datetime) -> str:
    """A time as Kubernetes writes it."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(
    before: Condition | None,
    kind: ConditionType,
    status: Literal["True", "False", "Unknown"],
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> Condition:
    """A condition, which keeps the time of its last transition where the status is as it was before."""
    same = before is not None and before.status == status
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=before.last_transition_time if before is not None and same else timestamp(now),
        observed_generation=generation,
    )


class Decision:
    """Collects a plan; starts from the status as it stands."""

    def __init__(self, status: JobStatus, generation: int, now: datetime) -> None:
        self._before = status
        self._conditions = {condition.type: condition for condition in status.conditions}
        self._generation = generation
        self.now = now
        self.attempts: list[Attempt] = list(status.attempts)
        self.progress: Progress | None = status.progress
        self.artifacts: Artifacts | None = status.artifacts
        self.evaluation: EvaluationResult | None = status.evaluation
        self.spec_hash = status.spec_hash
        self.start_time = status.start_time
        self.evaluation_retries = status.evaluation_retries
        self.poll: tuple[str, ...] = ()
        self.delete_itself = False
        self._lookups: list[Reference] = []
        self._create: list[Mapping[str, Any]] = []
        self._events: list[Event] = []
        self._delete: list[Deletion] = []
        self._look_again: float | None = None

    def is_true(self, kind: ConditionType) -> bool:
        """Whether a condition is there and holds."""
        return kind in self._conditions and self._conditions[kind].status == "True"

    @property
    def over(self) -> bool:
        """Whether the job has succeeded or failed for good."""
        return self.is_true("Complete") or self.is_true("Failed")

    @property
    def started(self) -> bool:
        """Whether an attempt was made, or the evaluation begun where nothing is trained."""
        return bool(self.attempts) or self.start_time is not None

    @property
    def evaluation_try(self) -> int:
        """Which try of the evaluation is next or running, counted from 1."""
        return 1 + (self.evaluation_retries or 0)

    @property
    def evaluation_number(self) -> int:
        """The number of that try's objects: tries are counted on from the attempts."""
        return (self.attempts[-1].number if self.attempts else 0) + self.evaluation_try

    def set(
        self,
        kind: ConditionType,
        status: Literal["True", "False", "Unknown"],
        reason: str,
        message: str = "",
        *,
        tell: Literal["", "Normal", "Warning"] = "",
        key: str = "",
        steady: bool = False,
    ) -> None:
        """Sets a condition; where its reason is new, `tell` also makes it an event.

        With `steady` the message stays while the reason does: a kubelet words the same trouble in many ways.
        """
        before = self._conditions.get(kind)
        if steady and before is not None and before.reason == reason:
            message = before.message
        now = condition(before, kind, status, reason, message, self._generation, self.now)
        self._conditions[kind] = now
        if tell and (before is None or (before.status, before.reason) != (status, reason)):
            told = kind if reason == "Succeeded" else reason
            self.tell(told, message, warning=tell == "Warning", key=key or f"{kind}/{self._generation}")

    def drop(self, kind: ConditionType) -> None:
        """Removes a condition."""
        self._conditions.pop(kind, None)

    def fail(self, reason: str, message: str) -> None:
        """Ends the job for good."""
        if self._conditions.get("Running"):
            self.set("Running", "False", reason, message)
        self.set("Failed", "True", reason, message)
        self.tell("Failed", f"{reason}: {message}", warning=True, key=f"{reason}/{self._generation}")

    def tell(self, reason: str, message: str, *, warning: bool = False, key: str) -> None:
        """Adds an event."""
        self._events.append(Event(reason, message, warning, key))

    def look_up(self, references: list[Reference]) -> None:
        """Asks for objects that must be known first."""
        self._lookups += references

    def create(self, body: Mapping[str, Any]) -> None:
        """Asks for a child."""
        self._create.append(body)

    def delete(self, kind: ChildKind, name: str, uid: str) -> None:
        """Asks for a child to go."""
        self._delete.append(Deletion(kind, name, uid))

    def again_in(self, seconds: float) -> None:
        """Asks for another look; the nearest one counts."""
        self._look_again = seconds if self._look_again is None else min(self._look_again, seconds)

    def plan(self) -> Plan:
        """The decision, taken."""
        if self._lookups:
            return Plan(lookups=tuple(self._lookups))
        status = self._status()
        changed = status != self._before
        return Plan(
            create=tuple(self._create),
            events=tuple(self._events),
            status=status if changed else None,
            delete=tuple(self._delete),
            delete_itself=self.delete_itself,
            poll=self.poll,
            look_again=self._look_again,
        )

    def _status(self) -> JobStatus:
        phase, message = self._in_a_word()
        order = get_args(ConditionType)
        ended = self._before.completion_time or timestamp(self.now)
        return JobStatus(
            observed_generation=self._generation,
            phase=phase,
            message=message or None,
            conditions=sorted(self._conditions.values(), key=lambda condition: order.index(condition.type)),
            progress=self.progress,
            attempts=_newest(self.attempts),
            artifacts=self.artifacts,
            evaluation=self.evaluation,
            evaluation_retries=self.evaluation_retries,
            notifications=self._before.notifications,
            start_time=self.start_time or (self.attempts[0].start_time if self.attempts else None),
            completion_time=ended if self.over else None,
            spec_hash=self.spec_hash,
        )

    def _in_a_word(self) -> tuple[Phase, str]:
        def message(kind: ConditionType) -> str:
            return self._conditions[kind].message if kind in self._conditions else ""

        if self.is_true("Complete"):
            return "Succeeded", message("Complete")
        if self.is_true("Failed"):
            return "Failed", message("Failed")
        if self.is_true("Suspended"):
            return "Suspended", message("Suspended")
        if self.is_true("Trained") or ("Evaluated" in self._conditions and self.started):
            queued = "Evaluated" in self._conditions and self._conditions["Evaluated"].reason == "Queued"
            return "Queued" if queued else "Evaluating", message("Evaluated")
        if self.is_true("Running"):
            return "Training", message("Running") or message("Validated")
        running = self._conditions.get("Running")
        if running is not None and running.reason == "Queued":
            return "Queued", running.message
        started = bool(self.attempts) and self.attempts[-1].end_time is None
        said = message("Validated") or message("Running") or message("Evaluated")
        return "Starting" if started else "Pending", said


def _newest(attempts: list[Attempt]) -> list[Attempt]:
    """At most so many attempts as a status holds; suspended ones, which no limit counts, go first."""
    excess = len(attempts) - _KEPT_ATTEMPTS
    if excess <= 0:
        return attempts
    gone = {id(a) for a in [a for a in attempts[:-1] if a.reason == "Suspended"][:excess]}
    return [a for a in attempts if id(a) not in gone][-_KEPT_ATTEMPTS:]
