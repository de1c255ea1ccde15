"""What a step of PPO learns from: prompts, answers, and what the models said of them when they were drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from tunesmith.data.tokenized import TokenizedRows, join_rows
from tunesmith.rlhf.advantages import Floats, Indices


@dataclass(frozen=True)
class Rollout:
    """The answers of a step; every worker holds all of them. Arrays over tokens are ragged (`rlhf.advantages`)."""

    texts: TokenizedRows
    """Prompt and answer of each; the learned tokens are those of the answer."""
    ended: NDArray[np.bool_]
    """Which answers have an end; [rows]."""
    terms: Floats
    """What each term of the reward gives each answer; [terms, rows]."""
    scores: Floats
    """The rewards; [rows]."""
    logprobs: Floats
    """Log-probability of each answered token under the policy that drew it."""
    reference: Floats
    """The same under the reference."""
    entropies: Floats
    """Of the policy at each answered token."""
    values: Floats
    """What the value function expected at each answered token."""

    @cached_property
    def starts(self) -> Indices:
        """Where each answer's tokens start in the ragged arrays, and where the last one's end; [rows + 1]."""
        return np.concatenate([[0], np.cumsum(self.texts.targets)])

    @property
    def log_ratios(self) -> Floats:
        """log policy - log reference of each token."""
        return self.logprobs - self.reference

    @property
    def divergences(self) -> Floats:
        """The k1 estimate of each answer's divergence from the reference, in nats; [rows]."""
        return np.add.reduceat(self.log_ratios, self.starts[:-1])

    def tokens_of(self, rows: Sequence[int]) -> Indices:
        """Where the answered tokens of some rows are in the ragged arrays, in the order of these rows."""
        spans = [np.arange(self.starts[row], self.starts[row + 1]) for row in rows]
        return np.concatenate(spans) if spans else np.zeros(0, np.int64)


def answered(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> TokenizedRows:
    """Prompts with their answers as rows of which the answers are learned."""
    rows = [
        ([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    return join_rows(rows, 0, 0)


def share(mine: dict[int, Any]) -> list[Any]:
    """What every worker found of its rows, in the order of the rows; all workers must call this."""
    everybody: list[Any] = [mine]
    if dist.is_initialized() and dist.get_world_size() > 1:
        everybody = [None] * dist.get_world_size()
        dist.all_gather_object(everybody, mine)
    found = {row: value for part in everybody for row, value in part.items()}
    return [found[row] for row in sorted(found)]
