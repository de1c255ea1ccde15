"""The training loop of PPO."""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.optim import Optimizer

from tunesmith.api.outcome import Overrides
from tunesmith.api.pod import RunFolder
from tunesmith.api.ppo import PPO
from tunesmith.api.training import TrainingSpec
from tunesmith.data.collate import Batch
from tunesmith.data.examples import FIXED
from tunesmith.data.plan import EpochPlan
from tunesmith.data.prepare import TrainingData
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.rlhf.advantages import Floats, adapted, estimate_advantages, token_rewards, whiten
from tunesmith.rlhf.collect import Collector
from tunesmith.rlhf.figures import figures_of, show_answers
from tunesmith.rlhf.flops import PolicyFlops
from tunesmith.rlhf.losses import entropies, log_probabilities, policy_loss, value_loss
from tunesmith.rlhf.rewards import references
from tunesmith.rlhf.roles import Role
from tunesmith.rlhf.rollout import Rollout
from tunesmith.run_log import at_step
from tunesmith.training import checkpoint
from tunesmith.training.checkpoint import Position
from tunesmith.training.failures import LossDivergedError, PolicyCollapsedError, StopRequestedError
from tunesmith.training.schedule import rate_factor
from tunesmith.training.state import gather_state, trained_parameters
from tunesmith.training.strategy import clip_gradients, only_last_synchronises, sum_over_workers
from tunesmith.training.telemetry import Telemetry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lessons:
    """A rollout with what its tokens are worth."""

    rollout: Rollout
    advantages: Floats
    """Whitened over the step; ragged."""
    returns: Floats
    """What the values should have been; ragged."""


@dataclass(frozen=True)
class PolicyTrainer:
    """Everything that a run's steps need."""

    training: TrainingSpec
    ppo: PPO
    overrides: Overrides
    collector: Collector
    optimizer: Optimizer
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
        lessons = self.lessons(rollout, beta)
        rate = self.training.learning_rate * self.overrides.learning_rate_scale
        rate *= rate_factor(self.training.schedule, position.step, self.plan.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]

        sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=self.collector.accelerator.device)
        norms = [
            self._update(lessons, part, sums, position)
            for passed in range(ppo.epochs)
            for part in mini_batches(len(rows), ppo.mini_batches, [self.training.seed, position.step, passed])
        ]
        main = self.collector.accelerator.is_main_process
        sums[_SUMS.index("stop")] = float(main and self.folder.stop_request.exists())
        summed = sum_over_workers(self.collector.accelerator, sums, self.collector.layout)
        total = dict(zip(_SUMS, summed.tolist(), strict=True))

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

    def lessons(self, rollout: Rollout, kl_coefficient: float) -> Lessons:
        """What each answered token is worth."""
        rewards = token_rewards(rollout.scores, rollout.log_ratios, rollout.starts, kl_coefficient)
        advantages, returns = estimate_advantages(
            rewards, rollout.values, rollout.starts, self.ppo.discount, self.ppo.gae_lambda
        )
        return Lessons(rollout, whiten(advantages), returns)

    def _update(self, lessons: Lessons, part: NDArray[np.int64], sums: torch.Tensor, position: Position) -> float:
        """One update of the weights from a mini-batch; returns the gradient's norm.

        Losses are divided by the answered tokens of the whole mini-batch, over all workers.
        """
        collector, texts = self.collector, lessons.rollout.texts
        accelerator, engine = collector.accelerator, collector.engine
        targets = int(texts.targets[part].sum())
        scale = collector.layout.data_workers / targets
        batches = collector.cut(part, texts)
        # one model after the other: their activations are never in memory together
        roles: tuple[Role, ...] = ("both",) if self.ppo.shared_value else ("policy", "value")
        for index, rows in enumerate(batches):
            with collector.clock.phase("data"):
                batch = collector.batch(collector.learning, texts, rows)
                learn = self._tensors(lessons, rows)
            for role in roles:
                last = index == len(batches) - 1 and role == roles[-1]
                with only_last_synchronises(accelerator, engine, last), collector.roles.playing(role):
                    with collector.clock.phase("forward"):
                        loss = self._loss(role, batch, learn, sums) * scale
                    with collector.clock.phase("backward"):
                        accelerator.backward(loss)
        with collector.clock.phase("backward"):
            self._average_gradients()
        with collector.clock.phase("optimizer"):
            return self._apply_gradient(position)

    def _apply_gradient(self, position: Position) -> float:
        """Moves the weights; returns the gradient's norm."""
        accelerator, engine = self.collector.accelerator, self.collector.engine
        norm = clip_gradients(accelerator, engine, self.training.max_grad_norm, self.training.max_grad_value)
        if not math.isfinite(norm) and accelerator.scaler is None:
            if self.telemetry is not None:
                self.telemetry.leave_out(norm)
            raise LossDivergedError(
                f"step {position.step + 1}: the gradient norm is {norm:g}; lower training.learningRate"
            )
        self.optimizer.step()  # under DeepSpeed the last backward has done it
        self.optimizer.zero_grad()
        if accelerator.distributed_type == "DEEPSPEED":
            from tunesmith.training import zero  # imports DeepSpeed

            zero.clear_gradients(engine.optimizer)
        return norm

    def _tensors(self, lessons: Lessons, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        at = lessons.rollout.tokens_of(rows)
        arrays = {
            "logprobs": lessons.rollout.logprobs,
            "values": lessons.rollout.values,
            "advantages": lessons.advantages,
            "returns": lessons.returns,
        }
        device = self.collector.accelerator.device
        return {name: torch.from_numpy(a[at]).to(device, torch.float32) for name, a in arrays.items()}

    def _loss(self, role: Role, batch: Batch, learn: dict[str, torch.Tensor], sums: torch.Tensor) -> torch.Tensor:
        with self.collector.computing():
            said = self.collector.engine(batch, role)
        if role == "policy":
            return self._policy_loss(said, batch.targets, learn, sums)
        if role == "value":
            return self._value_loss(said, learn, sums)
        logits, values = said
        return self._policy_loss(logits, batch.targets, learn, sums) + self._value_loss(values, learn, sums)

    def _policy_loss(
        self, logits: torch.Tensor, targets: torch.Tensor, learn: dict[str, torch.Tensor], sums: torch.Tensor
    ) -> torch.Tensor:
        new = log_probabilities(logits, targets, self.ppo.temperature)
        loss, clipped = policy_loss(new, learn["logprobs"], learn["advantages"], self.ppo.clip_range)
        sums[0] += loss.detach()
        sums[2] += clipped
        if self.ppo.entropy_coefficient:
            loss = loss - self.ppo.entropy_coefficient * entropies(logits, self.ppo.temperature).sum()
        return loss

    def _value_loss(self, new: torch.Tensor, learn: dict[str, torch.Tensor], sums: torch.Tensor) -> torch.Tensor:
        loss = value_loss(new, learn["values"], learn["returns"], self.ppo.value_clip_range)
        sums[1] += loss.detach()
        return self.ppo.value_coefficient * loss

    def _average_gradients(self) -> None:
        """The mean over the workers, where DeepSpeed does not take it."""
        accelerator = self.collector.accelerator
        if accelerator.num_processes == 1 or accelerator.distributed_type == "DEEPSPEED":
            return
        gradients = [p.grad for _, p in trained_parameters(self.collector.roles) if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= accelerator.num_processes
        for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def _refuse_collapse(self, position: Position, rollout: Rollout) -> None:
        divergence = float(rollout.divergences.mean())
        if divergence > self.ppo.kl_limit:
            raise PolicyCollapsedError(
                f"step {position.step + 1}: the answers diverge from the starting model by {divergence:.1f} nats, and "
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
            state = gather_state(collector.accelerator, collector.engine, self.optimizer)
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


_SUMS = ("policy_loss", "value_loss", "clipped", "stop")
"""What the workers add up in a step."""


def mini_batches(rows: int, count: int, seed: list[int]) -> list[NDArray[np.int64]]:
    """The rows of a step in a new order, cut for `count` updates; fewer where there are fewer rows."""
    order = np.random.default_rng(seed).permutation(rows)
    return [part for part in np.array_split(order, count) if len(part)]
