"""The reference implementations, where the papers say what must come out."""

import math

import pytest

from tests.unit.rlhf import reference

LOGITS = [0.5, -1.0, 2.0, 0.0]
REWARDS, VALUES = [0.1, -0.2, 1.5], [0.3, 0.4, -0.1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_probabilities_of_all_tokens_sum_to_one(temperature: float) -> None:
    logs = [reference.log_probability(LOGITS, token, temperature) for token in range(4)]
    assert sum(map(math.exp, logs)) == pytest.approx(1.0)
    assert logs[2] - logs[0] == pytest.approx((2.0 - 0.5) / temperature)


def test_equal_logits_have_the_largest_entropy() -> None:
    assert reference.entropy([7.0] * 4) == pytest.approx(math.log(4))
    assert reference.entropy(LOGITS) < reference.entropy(LOGITS, temperature=2.0) < math.log(4)
    assert reference.entropy([0.0, 1000.0]) == 0.0


def test_the_rewards_of_an_answer_sum_to_its_score_less_its_divergence() -> None:
    rewards = reference.token_rewards([-1.0, -2.0], [-1.5, -1.0], score=3.0, beta=0.1)
    assert rewards == pytest.approx([-0.05, 3.1])


def test_lambda_one_is_the_return_less_the_value() -> None:
    """Equation 18 of the paper."""
    got = reference.advantages(REWARDS, VALUES, discount=0.9, gae_lambda=1.0)
    assert got[0] == pytest.approx(0.1 - 0.9 * 0.2 + 0.81 * 1.5 - 0.3)
    assert reference.returns(REWARDS, VALUES, 0.9, 1.0)[0] == pytest.approx(0.1 - 0.9 * 0.2 + 0.81 * 1.5)


def test_lambda_zero_is_the_error_of_one_step() -> None:
    """Equation 17 of the paper."""
    got = reference.advantages(REWARDS, VALUES, discount=0.9, gae_lambda=0.0)
    assert got == pytest.approx([0.1 + 0.9 * 0.4 - 0.3, -0.2 - 0.9 * 0.1 - 0.4, 1.5 + 0.1])


def test_whitening_counts_tokens_not_rows() -> None:
    assert reference.whitened([[1.0, 1.0, 1.0], [5.0]], epsilon=0.0) == [
        pytest.approx([-1 / math.sqrt(3)] * 3),
        pytest.approx([math.sqrt(3)]),
    ]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, False),
        (1.5, 2.0, -2.4, True),  # gained enough
        (0.5, 2.0, -1.0, False),  # a good token that was lost may come back
        (0.5, -2.0, 1.6, True),
        (1.5, -2.0, 3.0, False),
    ],
)
def test_the_surrogate_takes_the_worse_of_both(ratio: float, advantage: float, loss: float, clipped: bool) -> None:
    """Figure 1 of the paper."""
    assert reference.surrogate_loss(math.log(ratio), 0.0, advantage, 0.2) == pytest.approx(loss)
    assert reference.is_clipped(math.log(ratio), 0.0, advantage, 0.2) == clipped


def test_a_value_that_went_too_far_is_judged_by_where_it_may_go() -> None:
    assert reference.value_loss(0.1, old=0.0, target=1.0, clip_range=0.2) == pytest.approx(0.5 * 0.9**2)
    assert reference.value_loss(0.9, old=0.0, target=1.0, clip_range=0.2) == pytest.approx(0.5 * 0.8**2)
    assert reference.value_loss(-0.9, old=0.0, target=1.0, clip_range=0.2) == pytest.approx(0.5 * 1.9**2)


def test_the_coefficient_follows_the_divergence_a_little_at_a_time() -> None:
    assert reference.next_coefficient(0.1, 6.0, target=6.0, answers=100, horizon=1000) == 0.1
    assert reference.next_coefficient(0.1, 6.6, target=6.0, answers=100, horizon=1000) == pytest.approx(0.101)
    assert reference.next_coefficient(0.1, 60.0, target=6.0, answers=100, horizon=1000) == pytest.approx(0.102)
    assert reference.next_coefficient(0.1, 0.0, target=6.0, answers=100, horizon=1000) == pytest.approx(0.098)
