"""PPO's functions over flat arrays, against the same written token by token from the papers."""

import itertools

import numpy as np
import pytest
import torch

from tests.unit.rlhf import reference
from tunesmith.rlhf.advantages import (
    Floats,
    adapted,
    estimate_advantages,
    explained_variance,
    token_rewards,
    whiten,
)
from tunesmith.rlhf.losses import entropies, log_probabilities, policy_loss, value_loss

LENGTHS = [3, 1, 7, 2, 5]
STARTS = np.concatenate([[0], np.cumsum(LENGTHS)])
DRAW = np.random.default_rng(7)


def ragged(scale: float = 1.0) -> Floats:
    values: Floats = DRAW.normal(0, scale, int(STARTS[-1]))
    return values


def tensors(*arrays: Floats) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def by_row(values: Floats) -> list[list[float]]:
    return [values[a:b].tolist() for a, b in itertools.pairwise(STARTS)]


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_log_probabilities_and_entropies(temperature: float) -> None:
    logits, tokens = torch.randn(9, 11, generator=torch.Generator().manual_seed(1)) * 4, torch.arange(9)
    chosen, undecided = log_probabilities(logits, tokens, temperature), entropies(logits, temperature)
    rows = logits.double().tolist()
    expected = [reference.log_probability(row, token, temperature) for token, row in enumerate(rows)]
    assert chosen.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert undecided.tolist() == pytest.approx([reference.entropy(row, temperature) for row in rows], abs=1e-6)


@pytest.mark.parametrize(("discount", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0)])
def test_advantages(discount: float, gae_lambda: float) -> None:
    rewards, values = ragged(), ragged()
    advantages, returns = estimate_advantages(rewards, values, STARTS, discount, gae_lambda)
    pairs = list(zip(by_row(rewards), by_row(values), strict=True))
    assert advantages == pytest.approx(flat([reference.advantages(r, v, discount, gae_lambda) for r, v in pairs]))
    assert returns == pytest.approx(flat([reference.returns(r, v, discount, gae_lambda) for r, v in pairs]))


def test_rewards_of_tokens() -> None:
    policy, other, scores = ragged(), ragged(), DRAW.normal(size=len(LENGTHS))
    found = token_rewards(scores, policy - other, STARTS, 0.3)
    rows = zip(by_row(policy), by_row(other), scores.tolist(), strict=True)
    assert found == pytest.approx(flat([reference.token_rewards(p, o, s, 0.3) for p, o, s in rows]))


def test_whitening_is_over_all_tokens() -> None:
    values = ragged(3) + 2
    assert whiten(values) == pytest.approx(flat(reference.whitened(by_row(values))), abs=1e-6)
    assert whiten(np.full(4, 3.0)).tolist() == [0, 0, 0, 0], "where all are alike there is nothing to prefer"


@pytest.mark.parametrize("clip_range", [0.2, 0.05])
def test_the_clipped_surrogate(clip_range: float) -> None:
    new, old, advantages = ragged(0.3), ragged(0.3), ragged()
    tokens_new, tokens_old, worth = tensors(new, old, advantages)
    loss, clipped = policy_loss(tokens_new, tokens_old, worth, clip_range)
    tokens = list(zip(new.tolist(), old.tolist(), advantages.tolist(), strict=True))
    assert float(loss) == pytest.approx(sum(reference.surrogate_loss(*t, clip_range) for t in tokens))
    assert int(clipped) == sum(reference.is_clipped(*t, clip_range) for t in tokens) > 0


def test_a_clipped_token_learns_nothing_more() -> None:
    new = torch.tensor([0.5, -0.5, 0.5, -0.5], requires_grad=True)
    loss, _ = policy_loss(new, torch.zeros(4), torch.tensor([1.0, -1.0, -1.0, 1.0]), 0.2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert new.grad is not None
    assert (new.grad != 0).tolist() == [False, False, True, True]


def test_the_clipped_value_loss() -> None:
    new, old, returns = ragged(), ragged(), ragged()
    values, before, targets = tensors(new, old, returns)
    loss = value_loss(values, before, targets, 0.4)
    tokens = zip(new.tolist(), old.tolist(), returns.tolist(), strict=True)
    assert float(loss) == pytest.approx(sum(reference.value_loss(*t, 0.4) for t in tokens))


@pytest.mark.parametrize("divergence", [0.1, 5.9, 6.5, 100.0])
def test_the_coefficient_follows_the_divergence(divergence: float) -> None:
    found = adapted(0.1, divergence, 6.0, 64, 1000)
    assert found == pytest.approx(reference.next_coefficient(0.1, divergence, 6.0, 64, 1000))
    assert (found > 0.1) == (divergence > 6)


def test_an_extreme_ratio_is_no_infinity() -> None:
    loss, _ = policy_loss(torch.tensor([200.0]), torch.tensor([-200.0]), torch.tensor([-1.0]), 0.2)
    assert torch.isfinite(loss)


def test_explained_variance() -> None:
    returns = np.array([0.0, 1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(np.full(4, 9.0), returns) == 0
    assert explained_variance(-returns, returns) < 0
