"""The training loop of PPO."""

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.api.outcome import Overrides
from tunesmith.api.pod import RunFolder
from tunesmith.api.ppo import PPO
from tunesmith.api.training import TrainingSpec
from tunesmith.data.examples import FIXED
from tunesmith.data.plan import EpochPlan
from tunesmith.data.prepare import TrainingData
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.rlhf.advantages import adapted
from tunesmith.rlhf.collect import Collector
from tunesmith.rlhf.figures import figures_of, show_answers
from tunesmith.rlhf.flops import PolicyFlops
from tunesmith.rlhf.learn import SUMS, Learner, Lessons, mini_batches
from tunesmith.rlhf.rewards import references
from tunesmith.rlhf.rollout import Rollout
from tunesmith.run_log import at_step
from tunesmith.training import checkpoint
from tunesmith.training.checkpoint import Position
from tunesmith.training.failures import LossDivergedError, PolicyCollapsedError, StopRequestedError
from tunesmith.training.schedule import rate_factor
from tunesmith.training.state import gather_state
from tunesmith.training.strategy import sum_over_workers
from tunesmith.training.telemetry import Telemetry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PolicyTrainer:
    """Everything that a run's steps need."""

    training: TrainingSpec
    ppo: PPO
    overrides: Overrides
    collector: Collector
    learner: Learner
    data: TrainingData
    plan: EpochPlan
    folder: RunFolder
    telemetry: Telemetry | None
    """Of the first worker."""
    flops: PolicyFlops

    def run(self, position: Position) -> Position:
        """Trains from a position to the end.

        Raises:
            LossDivergedError: a loss or a gradient is not finite.
            PolicyCollapsedError: the policy has strayed from the reference by more than ppo.klLimit.
            StopRequestedError: the run's folder holds a stop request; a checkpoint was written.
        """
        training, clock = self.training, self.collector.clock
        clock.lap()  # what was before is not the steps'
        while position.step < self.plan.total_steps:
            started = time.perf_counter()
            at_step(position.step + 1)
            position, record, rollout = self._step(position)
            finished = position.step == self.plan.total_steps
            saving = finished or position.step % training.checkpoint.every_steps == 0
            if saving and self.data.validation is not None:
                with clock.phase("validation"):
                    reward = self.validation_reward(self.data.validation)
                record["validation/reward"] = reward
                position = position.after_validation(-reward)
            stopping = record.pop("stop") > 0
            figures = {k: float(v) for k, v in record.items() if k not in ("step", "time")}
            position = position.model_copy(update={"metrics": figures})
            self._tell(position, record, rollout, time.perf_counter() - started, saving)
            if saving or stopping:
                self.save(position)
            if stopping and not finished:
                raise StopRequestedError(
                    f"stopped on request after step {position.step}; run again to go on from there"
                )
            if training.early_stopping and position.without_improvement >= training.early_stopping.patience:
                break
        return position

    def _step(self, position: Position) -> tuple[Position, dict[str, float], Rollout]:
        """Answers the step's prompts, then learns from the answers, several times over."""
        started = time.perf_counter()
        ppo, rows = self.ppo, self.plan.step(position.step)
        beta = position.kl_coefficient if position.kl_coefficient is not None else ppo.kl_coefficient
        rollout = self.collector.collect(*self.prompts(self.data.train, rows), position.step)
        self._refuse_collapse(position, rollout)
        collected = time.perf_counter()
        lessons = self.learner.lessons(rollout, beta)
        rate = self.training.learning_rate * self.overrides.learning_rate_scale
        rate *= rate_factor(self.training.schedule, position.step, self.plan.total_steps)
        for group in self.learner.optimizer.param_groups:
            group["lr"] = rate * group["factor"]

        sums = torch.zeros(len(SUMS) + 1, dtype=torch.float64, device=self.collector.accelerator.device)
        norms = [
            self._update(lessons, part, sums, position)
            for passed in range(ppo.epochs)
            for part in mini_batches(len(rows), ppo.mini_batches, [self.training.seed, position.step, passed])
        ]
        self.collector.answering.policy_changed()
        main = self.collector.accelerator.is_main_process
        sums[-1] = float(main and self.folder.stop_request.exists())
        summed = sum_over_workers(self.collector.accelerator, sums, self.collector.layout)
        total = dict(zip((*SUMS, "stop"), summed.tolist(), strict=True))

        figures = figures_of(rollout, lessons.returns, beta)
        if ppo.adaptive_kl is not None:
            beta = adapted(beta, figures["ppo/kl"], ppo.adaptive_kl.target, len(rows), ppo.adaptive_kl.horizon)
        count = len(rollout.logprobs) * ppo.epochs
        policy, value = total["policy_loss"] / count, total["value_loss"] / count
        figures |= {"ppo/policy_loss": policy, "ppo/value_loss": value, "ppo/clip_fraction": total["clipped"] / count}
        tokens, scaler = int(rollout.texts.lengths.sum()), self.collector.accelerator.scaler
        after = position.model_copy(
            update={
                "step": position.step + 1,
                "tokens": position.tokens + tokens,
                "samples": position.samples + len(rows),
                "kl_coefficient": beta,
                "loss_scale": scaler.get_scale() if scaler is not None else None,
            }
        )
        seconds = time.perf_counter() - started
        figures |= {
            "learning_rate": rate,
            "gradient_norm": float(np.mean(norms)),
            "tokens_per_second": tokens / seconds,
            "ppo/answers_per_second": len(rows) / seconds,
            "ppo/collecting_share": (collected - started) / seconds,
        }
        loss = policy + ppo.value_coefficient * value
        record = {"step": after.step, "time": time.time(), "tokens": after.tokens, "loss": loss, **figures}
        return after, record | {"stop": total["stop"]}, rollout

    def prompts(self, data: TokenizedRows, rows: NDArray[np.int64]) -> tuple[list[list[int]], list[str]]:
        """The prompts of some rows, and their right answers, empty where there is none."""
        prompts = [data.row(row)[0][~data.row(row)[1]].tolist() for row in rows.tolist()]
        return prompts, references(data, self.collector.tokenizer, rows.tolist())

    def _update(self, lessons: Lessons, part: NDArray[np.int64], sums: torch.Tensor, position: Position) -> float:
        """One update of the weights; returns the gradient's norm."""
        norm = self.learner.update(lessons, part, sums)
        if not math.isfinite(norm) and self.collector.accelerator.scaler is None:
            if self.telemetry is not None:
                self.telemetry.leave_out(norm)
            raise LossDivergedError(
                f"step {position.step + 1}: the gradient norm is {norm:g}; lower training.learningRate"
            )
        return norm

    def _refuse_collapse(self, position: Position, rollout: Rollout) -> None:
        divergence = float(rollout.divergences.mean())
        if divergence > self.ppo.kl_limit:
            raise PolicyCollapsedError(
                f"step {position.step + 1}: the answers diverge from the starting model by {divergence:.3g} nats, and "
                f"ppo.klLimit is {self.ppo.kl_limit:g}; the last checkpoint is from before. Raise ppo.klCoefficient, "
                "or lower training.learningRate or ppo.epochs"
            )

    def validation_reward(self, data: TokenizedRows) -> float:
        """The mean reward of one answer to each validation prompt; always the same draws."""
        total = 0.0
        for start in range(0, len(data), self.training.batch_size):
            rows = np.arange(start, min(start + self.training.batch_size, len(data)))
            rollout = self.collector.collect(*self.prompts(data, rows), FIXED)
            total += float(rollout.scores.sum())
        return total / len(data)

    def save(self, position: Position) -> None:
        """Writes a checkpoint; every worker takes part, the first one writes.

        Nothing of a rollout is in it: the next step draws its own, and would draw the same again.
        """
        collector = self.collector
        telling = self.telemetry.saving(position.step) if self.telemetry is not None else nullcontext()
        with collector.clock.phase("checkpoint"), telling:
            state = gather_state(collector.accelerator, collector.engine, self.learner.optimizer)
            if collector.accelerator.is_main_process:
                checkpoint.save(self.folder, position, state, self.training.checkpoint.keep)
        if self.telemetry is not None:
            self.telemetry.spend(collector.clock.lap())

    def _tell(
        self, position: Position, record: dict[str, float], rollout: Rollout, seconds: float, saving: bool
    ) -> None:
        spent = self.collector.clock.lap()
        if self.telemetry is None:
            return
        self.telemetry.spend(spent)
        write = saving or position.step % self.training.log_every_steps == 0
        tokens, count = int(rollout.texts.lengths.sum()), len(rollout.scores)
        flops = self.flops.step(rollout.texts, self.ppo.epochs)
        self.telemetry.step(record, seconds=seconds, tokens=tokens, samples=count, flops=flops, write=write)
        if saving:
            show_answers(self.folder.answers, position.step, rollout, self.collector.tokenizer)
