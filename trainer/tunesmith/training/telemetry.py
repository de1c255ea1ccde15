"""What a run tells while it runs: metrics.jsonl for programs that come later, and metrics for those that watch."""

import json
import math
import resource
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tunesmith.api.pod import RunFolder
from tunesmith.api.status import Progress
from tunesmith.training.clock import Phase
from tunesmith.training.meters import Meters
from tunesmith.training.series import COLUMNS
from tunesmith.training.serve import serve
from tunesmith.whole_files import write_whole

_PREFIX = "tunesmith_training_"
_TERM = "ppo/reward_"


class Telemetry:
    """Notes the figures of finished steps; only the first worker does.

    Columns of metrics.jsonl that it adds itself: `time/...`, the seconds that each phase took since the line before;
    `model_flop_utilization`; `peak_memory_bytes`.
    """

    def __init__(
        self,
        folder: RunFolder,
        total_steps: int,
        first_step: int,
        device: torch.device | None = None,
        peak_flops: float | None = None,
    ) -> None:
        """
        Args:
            folder: of the run.
            total_steps: of the whole run.
            first_step: after which this attempt goes on.
            device: of this worker; None for the CPU.
            peak_flops: of all workers' devices, in FLOP/s; without it utilisation is not told.
        """
        self._folder, self._peak = folder, peak_flops
        self._device = device if device is not None and device.type == "cuda" else None
        self._total, self._first, self._started = total_steps, first_step, time.monotonic()
        self._spent: dict[str, float] = {}
        self.progress: Progress | None = None
        self.meters = Meters()
        self.meters.set(f"{_PREFIX}steps_planned", total_steps)
        if peak_flops is not None:
            self.meters.set(f"{_PREFIX}peak_flops_per_second", peak_flops)
        self._watch_resources()
        forget_after(folder.metrics, first_step)

    def serve(self, port: int) -> None:
        """Serves /metrics and /progress."""
        serve(port, self.meters.registry, lambda: self.progress)

    def step(
        self,
        record: dict[str, Any],
        *,
        seconds: float,
        tokens: int,
        samples: int,
        write: bool,
        flops: float = 0.0,
    ) -> None:
        """Notes a finished step.

        Args:
            record: `step`, `loss` and the other columns of metrics.jsonl; a step that was left out has no loss.
            seconds: how long the step took, validation included.
            tokens: real tokens in it.
            samples: rows in it.
            write: whether the step gets a line in metrics.jsonl.
            flops: that the model needed for it, over all workers.
        """
        if self._peak and flops:
            busy = tokens / record["tokens_per_second"]  # without validation
            record = record | {"model_flop_utilization": flops / busy / self._peak}
        self._show(record)
        for name, amount in (("steps", 1), ("tokens", tokens), ("samples", samples), ("model_flops", flops)):
            self.meters.add(f"{_PREFIX}{name}_total", amount)
        self.meters.observe(f"{_PREFIX}step_duration_seconds", seconds)
        self.meters.set(f"{_PREFIX}last_step_timestamp_seconds", time.time())
        self.progress = self._progress(record)
        if write:
            spent = {f"time/{phase}": round(value, 6) for phase, value in self._spent.items()}
            self._spent = {}
            record = record | spent | {"peak_memory_bytes": peak_memory(self._device)}
            with self._folder.metrics.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(record) + "\n")

    def spend(self, seconds: Mapping[Phase, float]) -> None:
        """Notes where time has gone."""
        for phase, value in seconds.items():
            self.meters.add(f"{_PREFIX}phase_seconds_total", value, phase)
            self._spent[phase] = self._spent.get(phase, 0.0) + value

    def leave_out(self, loss: float) -> None:
        """Notes a step whose loss or gradient is not finite."""
        self.meters.add(f"{_PREFIX}skipped_steps_total", 1)
        if not math.isfinite(loss):
            self.meters.set(f"{_PREFIX}loss", math.nan)

    @contextmanager
    def saving(self, step: int) -> Iterator[None]:
        """Notes the checkpoint of a step that is written within, or that it failed."""
        started = time.perf_counter()
        try:
            yield
        except Exception:
            self.meters.add(f"{_PREFIX}checkpoint_failures_total", 1)
            raise
        files = (self._folder.checkpoints / f"step-{step:08d}").iterdir()
        self.meters.add(f"{_PREFIX}checkpoints_total", 1)
        self.meters.set(f"{_PREFIX}checkpoint_duration_seconds", time.perf_counter() - started)
        self.meters.set(f"{_PREFIX}checkpoint_bytes", sum(file.stat().st_size for file in files))
        self.meters.set(f"{_PREFIX}last_checkpoint_timestamp_seconds", time.time())

    def _show(self, record: Mapping[str, Any]) -> None:
        for column, value in record.items():
            if column in COLUMNS:
                self.meters.set(COLUMNS[column], value)
            elif (term := column.removeprefix(_TERM)) != column and term.isdecimal():
                self.meters.set("tunesmith_ppo_reward_term", value, term)

    def _watch_resources(self) -> None:
        """What is looked up when somebody asks, and costs the steps nothing."""
        self.meters.read(f"{_PREFIX}peak_memory_bytes", lambda: peak_memory(self._device))
        if self._device is not None:
            self.meters.read(f"{_PREFIX}memory_allocated_bytes", lambda: torch.cuda.memory_allocated(self._device))
            self.meters.read(f"{_PREFIX}memory_reserved_bytes", lambda: torch.cuda.memory_reserved(self._device))
        self.meters.read(f"{_PREFIX}storage_free_bytes", lambda: self._storage("free"))
        self.meters.read(f"{_PREFIX}storage_size_bytes", lambda: self._storage("total"))

    def _storage(self, what: str) -> float:
        try:
            return float(getattr(shutil.disk_usage(self._folder.root), what))
        except OSError:  # a claim that is gone for a moment
            return math.nan

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


def peak_memory(device: torch.device | None = None) -> int:
    """The highest memory of this process so far, in bytes: of its GPU where it has one, else resident."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_after(file: Path, step: int) -> None:
    """Drops the lines of steps that a resumed run does again."""
    if not file.exists():
        return
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
    write_whole(file, "".join(f"{line}\n" for line in lines))


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line that was cut off by a kill
