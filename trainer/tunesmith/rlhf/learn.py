"""What a step's answers teach: advantages, losses, and updates of the policy and the value function."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.optim import Optimizer

from tunesmith.api.ppo import PPO
from tunesmith.api.training import TrainingSpec
from tunesmith.data.collate import Batch
from tunesmith.rlhf.advantages import Floats, estimate_advantages, token_rewards, whiten
from tunesmith.rlhf.collect import Collector
from tunesmith.rlhf.losses import entropies, log_probabilities, policy_loss, value_loss
from tunesmith.rlhf.roles import Role
from tunesmith.rlhf.rollout import Rollout
from tunesmith.training.state import trained_parameters
from tunesmith.training.strategy import clip_gradients, in_precision, only_last_synchronises

SUMS = ("policy_loss", "value_loss", "clipped")
"""What updates add up, over their tokens."""


@dataclass(frozen=True)
class Lessons:
    """A rollout with what its tokens are worth."""

    rollout: Rollout
    advantages: Floats
    """Whitened over the step; ragged."""
    returns: Floats
    """What the values should have been; ragged."""


@dataclass(frozen=True)
class Learner:
    """Updates the weights from answers."""

    training: TrainingSpec
    ppo: PPO
    collector: Collector
    optimizer: Optimizer

    def lessons(self, rollout: Rollout, kl_coefficient: float) -> Lessons:
        """What each answered token is worth."""
        rewards = token_rewards(rollout.scores, rollout.log_ratios, rollout.starts, kl_coefficient)
        advantages, returns = estimate_advantages(
            rewards, rollout.values, rollout.starts, self.ppo.discount, self.ppo.gae_lambda
        )
        return Lessons(rollout, whiten(advantages), returns)

    def update(self, lessons: Lessons, part: NDArray[np.int64], sums: torch.Tensor) -> float:
        """One update of the weights from a mini-batch.

        Losses are divided by the answered tokens of the whole mini-batch, over all workers.

        Args:
            lessons: a step's answers.
            part: the rows of the mini-batch.
            sums: [len(SUMS) or more] float64; this worker's part is added.

        Returns:
            The gradient's norm. Where it is not finite, and no gradient scaler takes care of it, nothing has moved.
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
            return self._apply_gradient()

    def _apply_gradient(self) -> float:
        """Moves the weights; returns the gradient's norm."""
        accelerator, engine = self.collector.accelerator, self.collector.engine
        norm = clip_gradients(accelerator, engine, self.training.max_grad_norm, self.training.max_grad_value)
        if not math.isfinite(norm) and accelerator.scaler is None:
            return norm
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
        with in_precision(self.collector.accelerator):
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


def mini_batches(rows: int, count: int, seed: list[int]) -> list[NDArray[np.int64]]:
    """The rows of a step in a new order, cut for `count` updates; fewer where there are fewer rows."""
    order = np.random.default_rng(seed).permutation(rows)
    return [part for part in np.array_split(order, count) if len(part)]
