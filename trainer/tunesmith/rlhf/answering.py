"""Who draws the answers of a step: the trainer's own models, or vLLM (`rlhf.vllm_client`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from accelerate import Accelerator

from tunesmith.models.attention import usual_attention
from tunesmith.rlhf.roles import Roles, bare_of
from tunesmith.rlhf.rollout import share
from tunesmith.rlhf.sample import Sampling, draws_of, sample_answers
from tunesmith.training.layout import Layout
from tunesmith.training.strategy import in_precision


class Answering(Protocol):
    """Draws answers from the policy as it is."""

    def answer(self, prompts: Sequence[Sequence[int]], step: int) -> list[list[int]]:
        """An answer to each prompt; every worker must call this, and gets all of them.

        Args:
            prompts: tokens of each; none is empty.
            step: decides, with the seed and the place of a prompt, what is drawn.

        Returns:
            Tokens of each answer, the one that ends it included; at least one.
        """

    def policy_changed(self) -> None:
        """What is drawn from now on comes from other weights."""

    def close(self) -> None:
        """Gives back what is held; nothing is drawn any more."""


@dataclass(frozen=True)
class OwnDecoding:
    """Draws from the policy where it is, with a key-value cache."""

    seed: int
    accelerator: Accelerator
    layout: Layout
    roles: Roles
    sampling: Sampling
    micro_batch_size: int

    def answer(self, prompts: Sequence[Sequence[int]], step: int) -> list[list[int]]:
        """As `Answering.answer`."""
        lengths = np.array([len(prompt) for prompt in prompts])
        mine = self.layout.cut(np.arange(len(prompts)), lengths, self.micro_batch_size, None)
        found: dict[int, list[int]] = {}
        with self.roles.playing("policy") as policy, usual_attention(bare_of(policy)), in_precision(self.accelerator):
            for rows in mine:
                draws = [draws_of(self.seed, step + 1, row, self.sampling.max_new_tokens) for row in rows or [0]]
                some = [prompts[row] for row in rows or [0]]  # without rows of its own, a worker still takes part
                answers = sample_answers(policy, some, np.stack(draws), self.sampling)
                found |= dict(zip(rows, answers, strict=False))
        return share(found)

    def policy_changed(self) -> None:
        """Nothing is to be done: the policy is read where it is."""

    def close(self) -> None:
        """Nothing is held."""
