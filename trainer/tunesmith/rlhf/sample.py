"""Answers drawn from a policy, in batches with a key-value cache.

What a row draws follows from numbers that are its own, so that an answer does not depend on the batch that it is
computed in: not on its neighbours, nor on their padding, nor on the number of workers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.models.decode import Decoding
from tunesmith.training.failures import LossDivergedError

_WORTH_DROPPING = 0.75
"""Finished rows leave the batch when no more than this share of it still goes on."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: from the whole distribution, neither top-k nor top-p."""

    stops: frozenset[int]
    """Tokens that end an answer; they belong to it."""
    pad: int
    max_new_tokens: int
    temperature: float
    any_worker: Callable[[bool], bool] = lambda going_on: going_on
    """Whether any worker still goes on; where weights are shared among workers, all must compute as often as any."""


def draws_of(seed: int, step: int, position: int, count: int) -> NDArray[np.float64]:
    """The numbers that decide an answer: uniform in [0, 1), a function of the arguments; shape [count]."""
    return np.random.default_rng([seed, step, position]).random(count)


@torch.no_grad()
def sample_answers(
    model: Any, prompts: Sequence[Sequence[int]], draws: NDArray[np.float64], sampling: Sampling
) -> list[list[int]]:
    """One answer to each prompt, all in one batch.

    Args:
        model: a decoder in evaluation mode, on its device.
        prompts: tokens of each; none is empty.
        draws: uniform numbers; [rows, max_new_tokens].
        sampling: how.

    Returns:
        Tokens of each answer, the one that ends it included; at least one.

    Raises:
        LossDivergedError: the model's logits are not finite.
    """
    device = model.device
    stops = torch.tensor(sorted(sampling.stops), device=device)
    numbers = torch.from_numpy(draws).to(device)
    drawn = torch.full((len(prompts), sampling.max_new_tokens), -1, device=device)
    rows, going_on = (
        torch.arange(len(prompts), device=device),
        torch.ones(len(prompts), dtype=torch.bool, device=device),
    )
    batch = Decoding(model, sampling.pad)
    logits = batch.add(prompts)
    for step in range(sampling.max_new_tokens):
        tokens = draw_tokens(logits, numbers[rows, step], sampling.temperature)
        drawn[rows[going_on], step] = tokens[going_on]
        going_on &= ~torch.isin(tokens, stops)
        left = int(going_on.sum())
        if not sampling.any_worker(left > 0) or step + 1 == sampling.max_new_tokens:
            break
        if 0 < left <= _WORTH_DROPPING * len(rows):
            batch.keep(going_on.nonzero().squeeze(1))
            rows, tokens, going_on = rows[going_on], tokens[going_on], going_on[going_on]
        logits = batch.advance(tokens)
    return [[token for token in row if token >= 0] for row in drawn.tolist()]


def draw_tokens(logits: Tensor, numbers: Tensor, temperature: float) -> Tensor:
    """The tokens at which the distribution functions pass the numbers.

    Args:
        logits: [rows, vocabulary].
        numbers: uniform in [0, 1); fp64 [rows].
        temperature: divides the logits.

    Returns:
        int64 [rows].

    Raises:
        LossDivergedError: a logit is not finite.
    """
    below = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    total = below[:, -1:]
    if not bool(total.isfinite().all()):
        raise LossDivergedError("the policy's logits are not finite; lower training.learningRate")
    return torch.searchsorted(below, numbers[:, None] * total, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)
