"""The jobs of a small platform, and what becomes of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.api.outcome import EvaluationResult, Interval, MetricResult, Outcome, Reason

from ..kube import Object
from ..operator.ray import evaluation_alone, fine_tune_job, rlhf_pipeline
from .trainings import PPO, REWARD, SUPERVISED

NAMESPACES = ("assistants", "search")
_ASSISTANTS, _SEARCH = NAMESPACES
NODES = ("gpu-1", "gpu-2")
"""Have DCGM's exporter; what another node does, only Ray tells."""


@dataclass(frozen=True)
class Attempt:
    """What becomes of an attempt once it has pods."""

    reason: Reason | None = None
    """How it ends; not at all without one."""
    minutes: float = 0
    """How long it trains."""
    starts: bool = True
    """Whether its pods find a node."""

    def outcome(self, number: int) -> Outcome:
        assert self.reason is not None
        if self.reason == "Succeeded":
            return Outcome(reason="Succeeded", attempt=number, step=400, total_steps=400, metrics={"loss": 0.5})
        return Outcome(reason=self.reason, message=_MESSAGES[self.reason], attempt=number)


_MESSAGES: Mapping[Reason, str] = {
    "InvalidInput": "spec.dataset.train: there are no rows",
    "OutOfMemory": "a micro-batch of 8 rows has no room on the GPU",
    "WorkerLost": "a node went away",
    "GateFailed": "perplexity is 7.9, but should be at most 6",
}


@dataclass(frozen=True)
class Part:
    """What becomes of a job."""

    attempts: tuple[Attempt, ...] = (Attempt(),)
    """The last one is what follows, too."""
    evaluations: tuple[Attempt, ...] = (Attempt("Succeeded"),)
    """The same of the evaluation."""
    node: str = NODES[0]
    busy: float = 0.9
    """Of its GPUs, where it trains."""
    training: str = ""
    """The real run that its first worker is; none without."""


@dataclass(frozen=True)
class Scene:
    """A job or pipeline that somebody creates after so many minutes."""

    body: Object
    minute: float = 0


@dataclass(frozen=True)
class Play:
    """All of them."""

    scenes: tuple[Scene, ...]
    parts: Mapping[str, Part] = field(default_factory=dict)
    """By the name of a FineTuneJob, the stages of pipelines included."""


def measured(reason: Reason) -> EvaluationResult:
    """What an evaluation finds."""
    worse = 3.4 if reason == "GateFailed" else 0.0
    figures = {"perplexity": (4.5 + worse, 11.2), "rougeL": (0.41 - worse / 20, 0.28), "exactMatch": (0.37, 0.12)}
    metrics = [
        MetricResult(name=name, tuned=_about(tuned), base=_about(base)) for name, (tuned, base) in figures.items()
    ]
    return EvaluationResult(rows=500, metrics=metrics)


def _about(value: float) -> Interval:
    return Interval(value=round(value, 3), low=round(0.95 * value, 3), high=round(1.05 * value, 3))


def _gpus(number: int) -> dict[str, Any]:
    """A worker for each."""
    return {"scaling": {"workers": number, "resources": {"cpu": 8, "memory": "64Gi", "nvidia.com/gpu": 1}}}


def _job(name: str, namespace: str, gpus: int, **spec: Any) -> Object:
    return fine_tune_job(name, namespace, **_gpus(gpus), **spec)


def _queued(body: Object) -> Object:
    body["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    return body


def short() -> Play:
    """Every phase at once, and at the start all that ends."""
    scenes = (
        Scene(_job("sums", _ASSISTANTS, 4)),
        Scene(_job("titles", _ASSISTANTS, 1)),
        Scene(_pipeline("helpful", _ASSISTANTS)),
        Scene(_pipeline("polite", _SEARCH)),
        Scene(_job("embeddings", _SEARCH, 4)),
        Scene(_job("ranker", _SEARCH, 2)),
        Scene(_job("drafts", _SEARCH, 1)),
        Scene(evaluation_alone("gated", _SEARCH, 1)),
        Scene(_job("large", _SEARCH, 8)),
        Scene(_queued(_job("night", _ASSISTANTS, 4))),
        Scene(_job("paused", _ASSISTANTS, 2, suspend=True)),
    )
    soon = Attempt("Succeeded", 2)
    parts = {
        "sums": Part(training=SUPERVISED),
        "titles": Part((Attempt("OutOfMemory", 1), Attempt("WorkerLost", 1), soon), node=NODES[1]),
        "helpful-sft": Part((soon,)),
        "helpful-reward": Part((soon,)),
        "helpful-ppo": Part(training=PPO, busy=0.6),
        "polite-sft": Part((soon,), node=NODES[1]),
        "polite-reward": Part(node=NODES[1], training=REWARD, busy=0.75),
        "embeddings": Part(node=NODES[1], busy=0.01),
        "ranker": Part(node="gpu-3", busy=0.7),
        "drafts": Part((Attempt("InvalidInput", 1),)),
        "gated": Part(evaluations=(Attempt("GateFailed"),)),
        "large": Part((Attempt(starts=False),)),
    }
    return Play(scenes, parts)


def long() -> Play:
    """Twelve minutes of ordinary life, or longer ones, for pictures."""
    scenes = (
        Scene(_job("sums", _ASSISTANTS, 4)),
        Scene(_job("captions", _SEARCH, 2)),
        Scene(_job("embeddings", _SEARCH, 4)),
        Scene(_pipeline("helpful", _ASSISTANTS), 0.5),
        Scene(_job("titles", _ASSISTANTS, 1), 1),
        Scene(_job("ranker", _SEARCH, 2), 2),
        Scene(_queued(_job("night", _ASSISTANTS, 4)), 2.5),
        Scene(_job("drafts", _SEARCH, 1), 3),
        Scene(evaluation_alone("gated", _SEARCH, 1), 4),
        Scene(_job("dialogs", _SEARCH, 1), 4.5),
        Scene(_job("large", _SEARCH, 8), 6),
        Scene(_job("paused", _ASSISTANTS, 2, suspend=True), 7),
        Scene(_job("quotes", _ASSISTANTS, 1), 8),
    )
    parts = {
        "sums": Part(training=SUPERVISED, busy=0.88),
        "captions": Part((Attempt("Succeeded", 4),), node=NODES[1], busy=0.85),
        "helpful-sft": Part((Attempt("Succeeded", 1.5),), busy=0.9),
        "helpful-reward": Part((Attempt("Succeeded", 3),), training=REWARD, busy=0.75),
        "helpful-ppo": Part(training=PPO, busy=0.6),
        "titles": Part((Attempt("OutOfMemory", 1), Attempt("WorkerLost", 1.5), Attempt("Succeeded", 4)), busy=0.88),
        "embeddings": Part(node=NODES[1], busy=0.01),
        "ranker": Part(node="gpu-3", busy=0.7),
        "drafts": Part((Attempt("InvalidInput", 0.5),)),
        "gated": Part(evaluations=(Attempt("GateFailed"),)),
        "dialogs": Part((Attempt("OutOfMemory", 0.5), Attempt("Succeeded", 5)), node=NODES[1], busy=0.8),
        "large": Part((Attempt(starts=False),)),
        "quotes": Part(node=NODES[1], busy=0.45),
    }
    return Play(scenes, parts)


def _pipeline(name: str, namespace: str) -> Object:
    return rlhf_pipeline(name, namespace, **_gpus(2))
