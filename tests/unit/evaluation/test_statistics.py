"""Intervals beside what is known of them."""

import math
import time

import numpy as np
import pytest
from scipy.stats import binomtest  # type: ignore[import-untyped]

from tunesmith.evaluation.statistics import (
    FEWEST_ROWS,
    RESAMPLES,
    RowScores,
    estimate,
    mean_score,
    mean_share,
    perplexity,
    resampled_sums,
)


def scores(*values: float) -> RowScores:
    return mean_score(np.array(values, float))


def losses(*rows: tuple[float, float]) -> RowScores:
    sums, tokens = zip(*rows, strict=True)
    return perplexity(np.array(sums, float), np.array(tokens, float))


def test_a_mean_of_two_rows_lies_between_them() -> None:
    tuned = estimate(scores(0, 1)).tuned
    assert (tuned.value, tuned.low, tuned.high) == (0.5, 0, 1)


def test_perplexity_is_over_tokens_and_not_over_rows() -> None:
    """Rows of 1 and 3 tokens with means of 1 and 2 nats: exp(7/4), where a mean over rows would give exp(3/2)."""
    tuned = estimate(losses((1, 1), (6, 3))).tuned
    assert tuned.value == pytest.approx(math.exp(7 / 4))
    assert tuned.low == pytest.approx(math.exp(1))
    assert tuned.high == pytest.approx(math.exp(2))


def test_rows_without_tokens_are_left_out() -> None:
    with_empty = estimate(losses((1, 1), (0, 0), (6, 3), (0, 0)))
    assert with_empty == estimate(losses((1, 1), (6, 3)))


def test_a_single_usable_row_has_no_spread() -> None:
    tuned = estimate(losses((2, 1), (0, 0))).tuned
    assert tuned.value == tuned.low == tuned.high == pytest.approx(math.exp(2))


def test_the_width_for_a_share_is_the_normal_approximation() -> None:
    tuned = estimate(scores(*[1] * 120, *[0] * 280)).tuned
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert tuned.value == pytest.approx(0.3)
    assert tuned.high - tuned.low == pytest.approx(2 * half, rel=0.1)
    assert tuned.low == pytest.approx(0.3 - half, abs=0.01)


@pytest.mark.parametrize("rows", [1, 6, 30, 500])
def test_rows_that_are_all_alike_leave_open_what_clopper_and_pearson_do(rows: int) -> None:
    for right in (0, rows):
        exact = binomtest(right, rows).proportion_ci(0.95, "exact")
        tuned = estimate(mean_share(np.full(rows, float(right > 0)))).tuned
        assert (tuned.low, tuned.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    between = estimate(mean_share(np.full(rows, 0.5))).tuned
    assert between.low == pytest.approx(0.5 - exact_chance(rows) / 2)
    apart = estimate(mean_share(np.ones(rows)), mean_share(np.zeros(rows))).difference
    assert apart is not None
    assert (apart.low, apart.high) == pytest.approx((1 - 2 * exact_chance(rows), 1))
    assert (apart.low > 0) == (rows >= FEWEST_ROWS)
    rewards = estimate(mean_score(np.full(rows, 3.5))).tuned
    assert (rewards.low, rewards.high) == (3.5, 3.5), "on a scale without ends nothing is known"


def exact_chance(rows: int) -> float:
    return float(binomtest(0, rows).proportion_ci(0.95, "exact").high)


@pytest.mark.parametrize("exponential", [False, True])
def test_intervals_hold_the_truth_as_often_as_the_normal_approximation(exponential: bool) -> None:
    """Rows of 1 to 20 tokens with a mean of 2 nats per token; a ratio's approximation is Cochran's (1977, 2.11)."""
    generator = np.random.default_rng(8)
    truth = math.exp(2) if exponential else 2.0
    hits = expected = 0
    for _ in range(300):
        tokens = generator.integers(1, 21, size=100).astype(float)
        sums = generator.gamma(2 * tokens)
        found = estimate((perplexity if exponential else mean_score)(sums, tokens)).tuned
        hits += found.low <= truth <= found.high
        ratio = sums.sum() / tokens.sum()
        error = math.sqrt(((sums - ratio * tokens) ** 2).sum()) / tokens.sum()
        expected += abs(ratio - 2) < 1.96 * error
    assert abs(hits - expected) <= 6
    assert hits == pytest.approx(0.95 * 300, abs=12)


def test_the_difference_is_paired_by_row() -> None:
    """Rows differ much, but the tuned model is about 0.1 better on each; the intervals apart overlap."""
    generator = np.random.default_rng(0)
    base = generator.random(50)
    tuned = base + 0.1 + 0.01 * generator.standard_normal(50)
    found = estimate(scores(*tuned), scores(*base))
    assert found.base is not None and found.difference is not None
    assert found.tuned.low < found.base.high
    assert 0.09 < found.difference.low < found.difference.value < found.difference.high < 0.11
    assert found.difference.value == pytest.approx(found.tuned.value - found.base.value)


def test_the_difference_of_perplexities() -> None:
    found = estimate(losses((1, 1), (6, 3)), losses((2, 1), (6, 3)))
    assert found.base is not None and found.difference is not None
    assert found.difference.value == pytest.approx(found.tuned.value - found.base.value)
    # draws: both rows (7/4 and 8/4), the first twice (1 and 2), the second twice (2 and 2)
    assert found.difference.low == pytest.approx(math.e - math.e**2)
    assert found.difference.high == 0


@pytest.mark.parametrize("exponential", [False, True])
def test_a_model_differs_from_itself_by_exactly_nothing(exponential: bool) -> None:
    generator = np.random.default_rng(3)
    sums, tokens = generator.random(333) * 7.3, generator.integers(1, 9, 333).astype(float)
    rows = (perplexity if exponential else mean_score)(sums, tokens)
    difference = estimate(rows, rows).difference
    assert difference is not None
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_models_scored_on_other_rows_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same rows"):
        estimate(losses((1, 1), (0, 0)), losses((1, 1), (1, 2)))


def test_the_same_rows_give_the_same_intervals() -> None:
    values = np.random.default_rng(1).random(40)
    assert estimate(scores(*values)) == estimate(scores(*values))


def test_draws_have_as_many_rows_as_there_are() -> None:
    rows = 30
    counted, positions = resampled_sums(np.stack([np.ones(rows), np.arange(rows, dtype=float)], axis=1)).T
    assert counted.shape == (RESAMPLES,)
    assert (counted == rows).all()
    assert positions.std() == pytest.approx(rows * np.arange(rows).std() / math.sqrt(rows), rel=0.1)


def test_fewest_rows_is_where_unanimity_first_counts() -> None:
    assert 2 ** -(FEWEST_ROWS - 1) < 0.05 < 2 ** -(FEWEST_ROWS - 2)


def test_ten_thousand_rows_take_seconds() -> None:
    generator = np.random.default_rng(2)
    rows = [mean_score(generator.random(10_000)) for _ in range(2)]
    started = time.monotonic()
    estimate(*rows)
    assert time.monotonic() - started < 20
