"""A mixture: each set's share of an epoch, no row again before all of its set were drawn, and nothing to save."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from tunesmith.api.training import TrainingSpec
from tunesmith.data.mixture import epoch_order, shares
from tunesmith.data.plan import EpochPlan


@pytest.mark.parametrize(
    ("sizes", "weights", "expected"),
    [
        ((10, 1000), (1, 1), (505, 505)),
        ((10, 1000), (10, 1000), (10, 1000)),
        ((30, 30, 30), (0.5, 0.25, 0.25), (45, 23, 22)),
        ((7,), (3,), (7,)),
        ((50, 50), (1e-9, 1), (1, 99)),
        ((1, 1, 1), (1e-9, 1e-9, 1), (1, 1, 1)),
    ],
)
def test_the_rows_that_an_epoch_takes_from_each_set(
    sizes: tuple[int, ...], weights: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    assert shares(sizes, weights) == expected


@pytest.mark.parametrize("seed", range(50))
def test_shares_are_the_weights_to_one_row(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = tuple(random.integers(50, 3000, size=int(random.integers(1, 8))).tolist())
    weights = tuple(random.uniform(0.2, 5, len(sizes)).tolist())
    taken = shares(sizes, weights)
    assert sum(taken) == sum(sizes)
    exact = sum(sizes) * np.array(weights) / sum(weights)
    assert np.abs(np.array(taken) - exact).max() < 1


def drawn(sizes: tuple[int, ...], weights: tuple[float, ...], epochs: int, seed: int = 0) -> list[int]:
    return list(chain.from_iterable(epoch_order(sizes, weights, seed, epoch).tolist() for epoch in range(epochs)))


def test_every_row_of_a_set_comes_before_one_comes_again() -> None:
    """Over epochs too: the small set is repeated within each, the large one goes on in the next."""
    sizes, weights = (7, 100), (1.0, 1.0)
    rows = drawn(sizes, weights, epochs=6)
    for first, size in ((0, 7), (7, 100)):
        own = [row for row in rows if first <= row < first + size]
        assert len(own) in (6 * 53, 6 * 54)
        passes = [own[start : start + size] for start in range(0, len(own) - size + 1, size)]
        assert all(sorted(one) == list(range(first, first + size)) for one in passes)
        assert passes[0] != passes[1], "each pass has an order of its own"


def test_sets_are_spread_over_the_whole_epoch() -> None:
    order = epoch_order((1000, 1000), (1.0, 1.0), 0, 0)
    thirds = [Counter((part < 1000).tolist())[True] for part in np.array_split(order, 3)]
    assert min(thirds) > 280


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    """A run that resumes in its fifth epoch asks for that alone."""
    before = [epoch_order((9, 40), (2.0, 1.0), 1, epoch).tolist() for epoch in range(6)]
    epoch_order.cache_clear()
    assert epoch_order((9, 40), (2.0, 1.0), 1, 4).tolist() == before[4]
    assert before[4] != before[3]
    assert epoch_order((9, 40), (2.0, 1.0), 2, 4).tolist() != before[4]


def test_a_plan_of_several_sets_has_the_steps_of_all_their_rows() -> None:
    training = TrainingSpec.model_validate({"epochs": 2, "batchSize": 16})
    plan = EpochPlan.of(training, 10, 90, weights=(1.0, 1.0))
    assert (plan.steps_per_epoch, plan.total_steps) == (7, 14)
    rows = list(chain.from_iterable(plan.step(step).tolist() for step in range(7)))
    assert Counter(row < 10 for row in rows) == {True: 50, False: 50}
