"""The training loop of every supervised objective."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from tunesmith.api.outcome import Overrides
from tunesmith.api.pod import RunFolder
from tunesmith.api.training import TrainingSpec
from tunesmith.data.collate import Batch, Collator
from tunesmith.data.examples import FIXED
from tunesmith.data.plan import EpochPlan, MicroBatch
from tunesmith.data.prefetch import Ahead
from tunesmith.data.prepare import TrainingData
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.run_log import at_step
from tunesmith.training import checkpoint
from tunesmith.training.average import WeightAverage
from tunesmith.training.checkpoint import Position
from tunesmith.training.clock import StepClock
from tunesmith.training.failures import LossDivergedError, StopRequestedError
from tunesmith.training.flops import ModelFlops
from tunesmith.training.layout import Layout
from tunesmith.training.pull import L2Pull
from tunesmith.training.ranks import Ranks
from tunesmith.training.schedule import rate_factor
from tunesmith.training.state import gather_state, whole
from tunesmith.training.strategy import clip_gradients, only_last_synchronises, sum_over_workers
from tunesmith.training.telemetry import Telemetry

log = logging.getLogger(__name__)

Objective = Callable[[nn.Module, Batch], Tensor]
"""From a model and a micro-batch to the sum of the losses of its learned tokens; where the Trainer names figures, a
vector of this sum and of those of the figures."""


@dataclass(frozen=True)
class Trainer:
    """Everything that a run's steps need."""

    training: TrainingSpec
    overrides: Overrides
    accelerator: Accelerator
    layout: Layout
    model: nn.Module
    optimizer: Optimizer
    objective: Objective
    data: TrainingData
    plan: EpochPlan
    folder: RunFolder
    collator: Collator
    telemetry: Telemetry | None
    """Of the first worker."""
    flops: ModelFlops
    method: L2Pull | Ranks | None = None
    """What the method does beside the loss, once a step."""
    finish_gradients: Callable[[], None] = lambda: None
    """What the strategy does to a step's gradients."""
    average: WeightAverage | None = None
    """Is validated and exported instead of the weights."""
    figures: tuple[str, ...] = ()
    """What the objective tells beside the loss, as means over the learned tokens; of training steps with train/ before
    the name."""
    clock: StepClock = field(default_factory=StepClock)

    def run(self, position: Position) -> Position:
        """Trains from a position to the end.

        Raises:
            LossDivergedError: a loss or a gradient is not finite, once more than may be skipped; the weights are those
                of the last good step.
            StopRequestedError: the run's folder holds a stop request; a checkpoint was written.
        """
        training = self.training
        self.clock.lap()  # what was before is not the steps'
        while position.step < self.plan.total_steps:
            started = time.perf_counter()
            at_step(position.step + 1)
            position, record = self._step(position)
            finished = position.step == self.plan.total_steps
            saving = finished or position.step % training.checkpoint.every_steps == 0
            if saving and self.data.validation is not None:
                with self.clock.phase("validation"):
                    loss, *means = self.validate(self.data.validation)
                record |= {"validation/loss": loss, **dict(zip(self.figures, means, strict=True))}
                position = position.after_validation(loss)
            stopping, flops = record.pop("stop") > 0, record.pop("flops")
            position = position.model_copy(
                update={"metrics": {k: float(v) for k, v in record.items() if k not in ("step", "time")}}
            )
            self._tell(position, record, flops, time.perf_counter() - started, finished)
            if saving or stopping:
                self.save(position)
            if saving and not finished:
                self._wait_for_leave(position.step)
            if stopping and not finished:
                raise StopRequestedError(
                    f"stopped on request after step {position.step}; run again to go on from there"
                )
            if training.early_stopping and position.without_improvement >= training.early_stopping.patience:
                break
        return position

    def _step(self, position: Position) -> tuple[Position, dict[str, float]]:
        """One optimizer step over its rows, cut into micro-batches and spread over the workers.

        The loss is divided by the learned tokens of the whole step, over all workers, so that it does not depend on how
        the step is cut: the mean over workers that DDP and DeepSpeed take is undone by their number.
        """
        started = time.perf_counter()
        accelerator, rows = self.accelerator, self.plan.step(position.step)
        seed_step(self.training.seed, position.step, self.layout.data_rank)
        rate = self.training.learning_rate * self.overrides.learning_rate_scale
        rate *= rate_factor(self.training.schedule, position.step, self.plan.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]

        with self.clock.phase("data"):
            epoch = position.step // self.plan.steps_per_epoch
            targets = max(1, int(self.collator.examples.targets(self.data.train, rows, epoch).sum()))
            batches = self.ahead.take(position.step)
        total = torch.zeros(3 + len(self.figures), dtype=torch.float64, device=accelerator.device)
        self.model.train()
        for index, batch in enumerate(batches):
            with only_last_synchronises(accelerator, self.model, index == len(batches) - 1):
                with self.clock.phase("forward"):
                    sums = self.objective(self.model, batch).reshape(-1)
                with self.clock.phase("backward"):
                    accelerator.backward(sums[0] * (self.layout.data_workers / targets))
            total[2:] += sums.detach()

        with self.clock.phase("backward"):
            self.finish_gradients()
        with self.clock.phase("optimizer"):
            figures = self._add_method_gradient()
            norm = clip_gradients(accelerator, self.model, self.training.max_grad_norm, self.training.max_grad_value)
        total[0] = float(accelerator.is_main_process and self.folder.stop_request.exists())
        total[1] = sum(map(self.flops.batch, batches))
        stop, flops, *sums_of_all = sum_over_workers(accelerator, total, self.layout).tolist()
        mean, *means = (each / targets for each in sums_of_all)
        # a norm that is not finite is the scaler's to handle, where there is one
        good = math.isfinite(mean) and (math.isfinite(norm) or accelerator.scaler is not None)
        if not good:
            self._heed_non_finite(position, mean, norm, rows)
        skipped = position.skipped_steps + (not good)
        with self.clock.phase("optimizer"):
            if good or accelerator.scaler is not None:
                self.optimizer.step()  # under DeepSpeed the last backward has done it
            if self.method is not None and good and math.isfinite(norm):
                figures |= self.method.after_step(position.step + 1)
            self.optimizer.zero_grad()
            if self.average is not None and good:
                self.average.update(position.step + 1 - skipped)

        tokens = int(self.data.train.lengths[rows].sum())
        after = position.model_copy(
            update={
                "step": position.step + 1,
                "tokens": position.tokens + tokens,
                "samples": position.samples + len(rows),
                "skipped_steps": skipped,
                "loss_scale": accelerator.scaler.get_scale() if accelerator.scaler is not None else None,
            }
        )
        seconds = time.perf_counter() - started
        figures |= {f"train/{name}": value for name, value in zip(self.figures, means, strict=True)}
        figures |= {"learning_rate": rate, "tokens_per_second": tokens / seconds}
        figures |= {"loss": mean, "gradient_norm": norm} if good else {"skipped_steps": skipped}
        record = {"step": after.step, "time": time.time(), "tokens": after.tokens, **figures}
        return after, record | {"stop": stop, "flops": flops}

    def _add_method_gradient(self) -> dict[str, float]:
        """Adds what the method adds to the loss; once a step, and so after the workers have exchanged gradients."""
        if self.method is None:
            return {}
        scaler = self.accelerator.scaler
        return self.method.add_gradient(scaler.get_scale() if scaler is not None else 1.0)

    def _heed_non_finite(self, position: Position, loss: float, norm: float, rows: np.ndarray) -> None:
        """Passes over a step whose loss or gradient is not finite, on all workers alike, as often as the job allows."""
        if self.telemetry is not None:
            self.telemetry.leave_out(loss)
        what = f"step {position.step + 1}: the loss is {loss:g}, the gradient norm {norm:g} (rows {_listing(rows)})"
        allowed = self.training.skip_non_finite_steps
        if position.skipped_steps >= allowed:
            again = f", {allowed} such steps were left out before" if allowed else ""
            raise LossDivergedError(
                f"{what}{again}; lower training.learningRate or training.maxGradNorm, or look at these rows"
            )
        log.warning("%s; left out, the %d. of at most %d", what, position.skipped_steps + 1, allowed)

    def cut(self, rows: np.ndarray, data: TokenizedRows) -> list[MicroBatch]:
        """This worker's micro-batches of some rows; as many as every other worker has."""
        size = self.overrides.micro_batch_size or self.training.micro_batch_size
        capacity = size * self.collator.texts * self.training.max_length
        return self.layout.cut(rows, data.lengths, size, capacity if self.collator.packed else None)

    @cached_property
    def ahead(self) -> Ahead[list[Batch]]:
        """This worker's batches of each step. A GPU finds the next ones ready; on a CPU, the cores that would make them
        are those that compute."""
        in_thread = self.accelerator.device.type == "cuda"
        return Ahead(self._batches, self.plan.total_steps, in_thread)

    def _batches(self, step: int) -> list[Batch]:
        data, epoch = self.data.train, step // self.plan.steps_per_epoch
        return [self._collate(data, micro_batch, epoch) for micro_batch in self.cut(self.plan.step(step), data)]

    def _collate(self, data: TokenizedRows, rows: MicroBatch, epoch: int) -> Batch:
        return self.collator.batch(data, rows, epoch).to(self.accelerator.device)

    @torch.no_grad()
    def validate(self, data: TokenizedRows) -> list[float]:
        """The mean loss per learned token over a whole set, then the means of the figures; all workers take part."""
        self.model.eval()
        total = torch.zeros(1 + len(self.figures), dtype=torch.float64, device=self.accelerator.device)
        targets = int(self.collator.examples.targets(data, np.arange(len(data)), FIXED).sum())
        with self.average.in_place() if self.average is not None else nullcontext():
            for start in range(0, len(data), self.training.batch_size):
                rows = np.arange(start, min(start + self.training.batch_size, len(data)))
                for micro_batch in self.cut(rows, data):
                    total += self.objective(self.model, self._collate(data, micro_batch, FIXED)).reshape(-1).double()
        sums: list[float] = sum_over_workers(self.accelerator, total, self.layout).tolist()
        return [each / max(1, targets) for each in sums]

    def save(self, position: Position) -> None:
        """Writes a checkpoint; every worker takes part, the first one writes."""
        telling = self.telemetry.saving(position.step) if self.telemetry is not None else nullcontext()
        with self.clock.phase("checkpoint"), telling:
            state = gather_state(self.accelerator, self.model, self.optimizer)
            state |= self.method.state() if self.method is not None else {}
            if self.average is not None:
                state["average"] = {name: whole(tensor) for name, tensor in self.average.tensors.items()}
            if self.accelerator.is_main_process:
                checkpoint.save(self.folder, position, state, self.training.checkpoint.keep)
        if self.telemetry is not None:
            self.telemetry.spend(self.clock.lap())

    def _wait_for_leave(self, step: int) -> None:
        """Where a search holds its trials, waits at a checkpoint until it lets this one go on; the others wait for the
        first worker in the next step."""
        while self.accelerator.is_main_process and not self.folder.stop_request.exists():
            if not self.folder.hold.exists() or step < int(self.folder.hold.read_text(encoding="utf-8")):
                return
            time.sleep(0.02)

    def _tell(self, position: Position, record: dict[str, float], flops: float, seconds: float, finished: bool) -> None:
        spent = self.clock.lap()
        if self.telemetry is None:
            return
        self.telemetry.spend(spent)
        rows = self.plan.step(position.step - 1)
        write = finished or position.step % self.training.log_every_steps == 0 or "validation/loss" in record
        tokens = int(self.data.train.lengths[rows].sum())
        self.telemetry.step(record, seconds=seconds, tokens=tokens, samples=len(rows), flops=flops, write=write)


def seed_step(seed: int, step: int, worker: int) -> None:
    """Seeds dropout for a step: there is no random state to save, and a resumed step repeats itself exactly."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, worker]).generate_state(1, np.uint64)[0] >> 1))


def _listing(rows: np.ndarray) -> str:
    return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
