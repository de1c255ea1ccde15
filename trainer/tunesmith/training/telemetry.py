"""What a run tells while it runs: metrics.jsonl for programs that come later, and HTTP for those that watch.

`/metrics` is Prometheus text; `/progress` is a Progress, which the operator copies into the job's status.
"""

import json
import math
import resource
import time
from pathlib import Path
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.process_collector import ProcessCollector

from tunesmith.api.status import Progress

_GAUGES = {
    "loss": "Mean loss per learned token of the last step, in nats.",
    "validation_loss": "Mean loss per learned token on the validation rows, in nats.",
    "learning_rate": "Learning rate of the last step.",
    "gradient_norm": "Global norm of the last step's gradient, before clipping.",
    "tokens_per_second": "Real tokens of the last step by its time, padding excluded.",
    "steps_planned": "Optimizer steps of the whole run.",
    "peak_memory_bytes": "Highest memory so far: of the GPU where there is one, else resident.",
}

_OF_OBJECTIVES = {
    "ppo/reward": ("ppo_reward", "Mean reward of the last step's answers."),
    "ppo/reward_deviation": ("ppo_reward_deviation", "Standard deviation of the last step's rewards."),
    "ppo/reward_p10": ("ppo_reward_low", "The reward that a tenth of the last step's answers stay below."),
    "ppo/reward_p90": ("ppo_reward_high", "The reward that a tenth of the last step's answers exceed."),
    "validation/reward": ("ppo_validation_reward", "Mean reward of one answer to each validation prompt."),
    "ppo/objective": ("ppo_objective", "Mean reward, less what the divergence costs."),
    "ppo/kl": ("ppo_divergence_nats", "Mean divergence of an answer from the starting model, in nats."),
    "ppo/kl_coefficient": ("ppo_kl_coefficient", "What a nat of divergence costs, in units of the reward."),
    "ppo/entropy": ("ppo_entropy_nats", "Mean entropy of the policy at an answered token, in nats."),
    "ppo/explained_variance": (
        "ppo_explained_variance_ratio",
        "Share of the returns' variance that the value function foresees; below 0 it is worse than a constant.",
    ),
    "ppo/answer_tokens": ("ppo_answer_tokens", "Mean length of the last step's answers, in tokens."),
    "ppo/ended": ("ppo_ended_ratio", "Share of the last step's answers that have an end."),
    "ppo/policy_loss": ("ppo_policy_loss", "Mean clipped surrogate of the last step's tokens, negated."),
    "ppo/value_loss": ("ppo_value_loss", "Half the mean squared error of the values, clipped."),
    "ppo/clip_fraction": ("ppo_clipped_ratio", "Share of the tokens that clipping held back."),
    "ppo/answers_per_second": ("ppo_answers_per_second", "Answers of the last step by its time."),
    "ppo/collecting_share": ("ppo_collecting_ratio", "Share of the last step's time that answers took."),
    "train/reward/accuracy": ("reward_accuracy_ratio", "Share of the last step's pairs that are in the right order."),
    "train/reward/margin": ("reward_margin", "How much higher preferred answers score, mean of the last step."),
    "reward/accuracy": (
        "reward_validation_accuracy_ratio",
        "Share of the validation pairs that are in the right order.",
    ),
    "reward/margin": (
        "reward_validation_margin",
        "How much higher preferred answers score, mean of the validation pairs.",
    ),
}
"""Columns of metrics.jsonl that only some objectives have: their gauges appear with the first step that has them."""
_TERM = "ppo/reward_"


class Telemetry:
    """Notes the figures of finished steps; only the first worker does."""

    def __init__(self, file: Path, total_steps: int, first_step: int) -> None:
        self._file = file
        self._total, self._first, self._started = total_steps, first_step, time.monotonic()
        self.progress: Progress | None = None
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauges = {n: Gauge(f"tunesmith_training_{n}", d, registry=self.registry) for n, d in _GAUGES.items()}
        self._terms: Gauge | None = None
        counter = {
            "steps": "Finished optimizer steps.",
            "tokens": "Real tokens seen.",
            "samples": "Training rows seen.",
        }
        self._counters = {n: Counter(f"tunesmith_training_{n}", d, registry=self.registry) for n, d in counter.items()}
        buckets = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
        self._step_time = Histogram(
            "tunesmith_training_step_duration_seconds",
            "Time of an optimizer step.",
            registry=self.registry,
            buckets=buckets,
        )
        self._gauges["steps_planned"].set(total_steps)
        forget_after(file, first_step)

    def step(self, record: dict[str, Any], *, seconds: float, tokens: int, samples: int, write: bool) -> None:
        """Notes a finished step.

        Args:
            record: `step`, `loss` and the other columns of metrics.jsonl.
            seconds: how long the step took.
            tokens: real tokens in it.
            samples: rows in it.
            write: whether the step gets a line in metrics.jsonl.
        """
        for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second"):
            if name in record:  # a step that was left out has no loss
                self._gauges[name].set(record[name])
        if "validation/loss" in record:
            self._gauges["validation_loss"].set(record["validation/loss"])
        self._note_objective(record)
        record = record | {"peak_memory_bytes": peak_memory()}
        self._gauges["peak_memory_bytes"].set(record["peak_memory_bytes"])
        for name, amount in (("steps", 1), ("tokens", tokens), ("samples", samples)):
            self._counters[name].inc(amount)
        self._step_time.observe(seconds)
        self.progress = self._progress(record)
        if write:
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(record) + "\n")

    def _note_objective(self, record: dict[str, Any]) -> None:
        for column, value in record.items():
            if column in _OF_OBJECTIVES:
                name, meaning = _OF_OBJECTIVES[column]
                if column not in self._gauges:
                    self._gauges[column] = Gauge(f"tunesmith_{name}", meaning, registry=self.registry)
                self._gauges[column].set(value)
            elif (term := column.removeprefix(_TERM)) != column and term.isdecimal():
                if self._terms is None:
                    what = "Mean of what a term of the reward gives the last step's answers, before its weight."
                    self._terms = Gauge("tunesmith_ppo_reward_term", what, ["term"], registry=self.registry)
                self._terms.labels(term).set(value)

    def _progress(self, record: dict[str, Any]) -> Progress:
        step = record["step"]
        pace = (time.monotonic() - self._started) / (step - self._first)
        known = self.progress.validation_loss if self.progress else None
        last = self.progress.loss if self.progress else None
        reward = record.get("ppo/reward")
        return Progress.model_validate(
            {
                "step": step,
                "totalSteps": self._total,
                "percentage": math.floor(100 * step / self._total),
                "loss": round(record["loss"], 6) if "loss" in record else last,
                "validationLoss": record.get("validation/loss", known),
                "reward": round(reward, 6) if reward is not None else None,
                "tokensPerSecond": round(record["tokens_per_second"], 1),
                "remainingSeconds": math.ceil(pace * (self._total - step)),
            }
        )

    def serve(self, port: int) -> None:
        """Serves /metrics and /progress from a thread, on all addresses of the pod."""
        metrics = make_wsgi_app(self.registry)

        def application(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] != "/progress":
                return metrics(environ, start_response)
            if self.progress is None:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"no step is finished yet\n"]
            start_response("200 OK", [("Content-Type", "application/json")])
            return [self.progress.model_dump_json(exclude_none=True).encode()]

        server = make_server("", port, application, server_class=WSGIServer, handler_class=_QuietHandler)
        Thread(target=server.serve_forever, daemon=True, name="telemetry").start()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the overridden method
        pass


def peak_memory() -> int:
    """The highest memory of this process so far, in bytes: of its GPU where it has one, else resident."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_after(file: Path, step: int) -> None:
    """Drops the lines of steps that a resumed run does again."""
    if not file.exists():
        return
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
    partial = file.with_suffix(".partial")
    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    partial.replace(file)


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line that was cut off by a kill
