"""How a run ended, and what follows from it: the one message that passes from the trainer to whoever started it.

The trainer writes an Outcome to result.json and the submitter pod leaves it as its termination message; `next_attempt`
is the recovery policy, used by the operator on a cluster and by `tunesmith run` on one machine alike.
"""

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.api.base import Record

Reason = Literal[
    "Succeeded",
    "InvalidInput",  # the spec, the data or the model cannot work: trying again cannot help
    "OutOfMemory",
    "LossDiverged",  # the loss is NaN or infinite
    "PolicyCollapsed",  # PPO has left its starting model too far behind
    "StorageFull",
    "GateFailed",  # the model does not meet a condition of evaluation.gates
    "Interrupted",  # asked to stop; a checkpoint was written
    "WorkerLost",  # a node, a pod or a process went away
    "OutcomeUnknown",  # no message was left
    "InternalError",  # a defect of ours, or of a library
]

TERMINATION_MESSAGE_LIMIT = 4096
"""Bytes of a container's termination message that Kubernetes keeps."""
LOG_TAIL_LIMIT = 1024
"""Bytes of a log's end that an Outcome carries."""
_MESSAGE_KEPT = 1024
"""Bytes of the sentence that stay, whatever else there is to tell."""


class Overrides(Record):
    """What an attempt changes in the spec, after an earlier one failed."""

    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Replaces training.microBatchSize after out-of-memory failures."""
    learning_rate_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Multiplies training.learningRate after the loss diverged."""


class PastAttempt(Record):
    """An attempt that is over, for those who read of it later."""

    number: int
    """Counted from 1."""
    reason: str
    """Why it ended: one of Reason, or what the operator saw, such as Suspended."""
    message: str = ""
    """The end in a sentence."""
    overrides: Overrides = Overrides()
    """What it changed in the spec."""


class Artifacts(Record):
    """Where a run left what: addresses such as pvc://CLAIM/PATH on a cluster, paths on one machine."""

    folder: str | None = None
    """The run's folder."""
    model: str | None = None
    """The tuned model, loadable with from_pretrained."""
    adapter: str | None = None
    """The adapter, where model is the merged one."""
    checkpoint: str | None = None
    """The newest checkpoint."""
    report: str | None = None
    """The report."""


class Interval(Record):
    """An estimate with its 95% confidence interval."""

    value: float
    """The estimate."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


class MetricResult(Record):
    """One metric of the evaluation."""

    name: str
    """perplexity, exactMatch, tokenF1."""
    tuned: Interval
    """Of the tuned model."""
    base: Interval | None = None
    """Of the model that training started from."""
    verdict: str | None = None
    """What the test of the tuned model against the base shows, corrected for all metrics."""


class EvaluationResult(Record):
    """The evaluation's figures; the rows are in the run's folder."""

    rows: int
    """How many test rows were used."""
    metrics: Annotated[list[MetricResult], Field(max_length=64)]
    """The first ones, in the order of spec.evaluation: as many as a pod's message has room for."""
    omitted: Annotated[int, Field(ge=0)] = 0
    """How many more there are, in the run's folder alone."""

    def first(self, count: int) -> "EvaluationResult":
        """The same with so many metrics; the others are counted."""
        left = len(self.metrics) - count
        return self.model_copy(update={"metrics": self.metrics[:count], "omitted": self.omitted + left})


class Outcome(Record):
    """How a training run or an evaluation ended."""

    reason: Reason
    message: str = ""
    """One sentence: what happened, and what to do about it."""
    attempt: int = 1
    """Which attempt this was."""
    step: int | None = None
    """The last finished optimizer step."""
    total_steps: int | None = None
    metrics: dict[str, float] = {}
    """The last values by name: loss, validation/loss, tokens_per_second."""
    artifacts: Artifacts = Artifacts()
    log_tail: str | None = None
    """Of a failure, the last lines of the log of the worker that failed first, at most 1 KiB."""
    findings: Annotated[list[str], Field(max_length=3)] = []
    """What the curves of the run show, each a name and what was seen; the run's folder has the remedies."""
    evaluation: EvaluationResult | None = None
    """Set by the evaluation."""

    @property
    def told(self) -> str:
        """The reason with the message, where there is one."""
        return f"{self.reason}: {self.message}" if self.message else self.reason

    def to_termination_message(self) -> str:
        """As JSON of at most 4 KiB.

        What does not fit is cut from a long message first, then from the start of the log's tail, then from the
        evaluation's metrics, the last first, which are counted: the run's folder has them all.
        """
        outcome = self._cut(_MESSAGE_KEPT)._cut_tail()
        while outcome._excess() > 0 and outcome.evaluation is not None and outcome.evaluation.metrics:
            fewer = outcome.evaluation.first(len(outcome.evaluation.metrics) - 1)
            outcome = outcome.model_copy(update={"evaluation": fewer})
        return outcome._cut(0).model_dump_json(exclude_none=True)

    def _excess(self) -> int:
        """Bytes over the limit."""
        return len(self.model_dump_json(exclude_none=True).encode()) - TERMINATION_MESSAGE_LIMIT

    def _cut_tail(self) -> "Outcome":
        excess = self._excess()
        if excess <= 0 or self.log_tail is None:
            return self
        kept = self.log_tail.encode()[excess + 16 :].decode(errors="ignore")
        return self.model_copy(update={"log_tail": f"…{kept}" if kept else None})

    def _cut(self, least: int) -> "Outcome":
        """With as much less of the message as it is too long, but at least so many bytes."""
        excess, message = self._excess(), self.message.encode()
        if excess <= 0 or len(message) <= least:
            return self
        kept = message[: max(least, len(message) - excess - 16)].decode(errors="ignore")
        return self.model_copy(update={"message": kept + "…"})


class Retry(Record):
    """Try again, from the last checkpoint."""

    overrides: Overrides
    counts: bool
    """Whether the failure uses up one of spec.backoffLimit."""
    explanation: str
    """What the next attempt changes, for people."""


def next_attempt(reason: Reason, overrides: Overrides, micro_batch_size: int) -> Retry | None:
    """Decides what follows a failed attempt; None where trying again cannot help.

    Args:
        reason: why the attempt ended.
        overrides: what that attempt had changed already.
        micro_batch_size: training.microBatchSize of the spec.
    """
    match reason:
        case "OutOfMemory":
            size = overrides.micro_batch_size or micro_batch_size
            if size == 1:
                return None
            halved = overrides.model_copy(update={"micro_batch_size": size // 2})
            return Retry(overrides=halved, counts=True, explanation=f"microBatchSize {size} -> {size // 2}")
        case "LossDiverged":
            if overrides.learning_rate_scale < 1:
                return None
            lowered = overrides.model_copy(update={"learning_rate_scale": 0.5})
            return Retry(
                overrides=lowered, counts=True, explanation="learningRate halved, from the last good checkpoint"
            )
        case "WorkerLost" | "Interrupted":
            return Retry(overrides=overrides, counts=False, explanation="resumes from the last checkpoint")
        case "OutcomeUnknown" | "InternalError":
            return Retry(overrides=overrides, counts=True, explanation="resumes from the last checkpoint")
        case "Succeeded" | "InvalidInput" | "StorageFull" | "PolicyCollapsed" | "GateFailed":
            return None
