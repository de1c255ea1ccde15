"""Tests of tests: how often they claim what is not, and how often they find what is."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tunesmith.evaluation.significance import (
    ALPHA,
    RANDOMISATIONS,
    Pair,
    detectable_difference,
    draws_for,
    holm,
    mirrored,
    randomisation_tests,
    rows_needed,
)
from tunesmith.evaluation.statistics import Floats, RowScores, estimates, mean_score, perplexity
from tunesmith.evaluation.verdict import verdict_of

DRAWS = 2000
"""For simulations."""


def scores(*values: float) -> RowScores:
    return mean_score(np.array(values, float))


def test_all_rows_agree_by_chance_once_in_two_to_the_rows_less_one() -> None:
    (p,) = randomisation_tests([(scores(1, 2, 3, 4, 5, 6), scores(0, 0, 0, 0, 0, 0))])
    assert p == 2 / 2**6


def test_every_exchange_is_tried_where_few_rows_differ_and_some_are_drawn_else() -> None:
    generator = np.random.default_rng(5)
    one, other = generator.random(12), generator.random(12) + 0.25
    pair = mean_score(one), mean_score(other)
    (exact,), (drawn,) = randomisation_tests([pair]), randomisation_tests([pair], draws=4000)
    mask = np.arange(2**12)[:, None] >> np.arange(12) & 1
    by_hand = np.abs(((1 - 2 * mask) * (one - other)).mean(axis=1)) >= abs((one - other).mean()) - 1e-12
    assert exact == by_hand.mean()
    assert 0.01 < exact < 0.99
    assert drawn != exact and drawn == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("rows", [1, 12, 300])
@pytest.mark.parametrize("metric", [mean_score, perplexity])
def test_a_model_beside_itself_has_a_p_of_exactly_1(rows: int, metric: Callable[[Floats, Floats], RowScores]) -> None:
    generator = np.random.default_rng(rows)
    model = metric(generator.random(rows) * 7.3, generator.integers(1, 9, rows).astype(float))
    assert randomisation_tests([(model, model)]) == [1]


def test_the_other_way_round_is_as_likely() -> None:
    generator = np.random.default_rng(9)
    one, other = scores(*generator.random(50)), scores(*generator.random(50) + 0.1)
    (forth,), (back,) = randomisation_tests([(one, other)]), randomisation_tests([(other, one)])
    assert 0 < forth < 0.9
    assert forth == pytest.approx(back, abs=0.02)


def test_a_win_rate_is_tested_as_by_the_binomial() -> None:
    """Nine wins, two losses and a tie: of 11 coins, 9 or more are heads, or tails."""
    wins = scores(*[1] * 9, 0, 0, 0.5)
    (p,) = randomisation_tests([(wins, mirrored(wins))])
    assert p == pytest.approx(2 * sum(math.comb(11, heads) for heads in (9, 10, 11)) / 2**11)


def test_what_is_no_number_is_not_taken_for_a_small_difference() -> None:
    """A metric that cannot be had from the exchanged rows says nothing for the difference."""

    def measure(sums: Floats) -> Floats:
        whole: Floats = np.where(np.isin(sums[..., 0], (0, 20)), sums[..., 0], np.nan)
        return whole

    used = np.ones(20, np.bool_)
    one, other = (RowScores(np.full((20, 1), value), used, measure) for value in (1.0, 0.0))
    (p,) = randomisation_tests([(one, other)])
    assert p == 1


def ratio(generator: np.random.Generator, rows: int, shift: float = 0.0) -> RowScores:
    """A corpus metric: what both models hit and what they guessed differ by row, as in a micro F1 or a BLEU."""
    lengths = generator.integers(1, 30, rows).astype(float)
    hits = generator.binomial(lengths.astype(int), min(1, 0.4 + shift)).astype(float)
    parts = np.stack([hits, lengths], axis=1)
    return RowScores(parts, np.ones(rows, np.bool_), lambda sums: 100 * sums[..., 0] / sums[..., 1])


def mean(generator: np.random.Generator, rows: int) -> RowScores:
    return mean_score(generator.exponential(size=rows))


def of_tokens(generator: np.random.Generator, rows: int) -> RowScores:
    tokens = generator.integers(1, 20, rows).astype(float)
    return perplexity(generator.gamma(2 * tokens), tokens)


@pytest.mark.parametrize("rows", [10, 40])
@pytest.mark.parametrize("metric", [mean, ratio, of_tokens])
def test_five_in_a_hundred_comparisons_of_equals_have_a_p_of_5_percent(
    metric: Callable[[np.random.Generator, int], RowScores], rows: int
) -> None:
    generator = np.random.default_rng(1)
    pairs = [(metric(generator, rows), metric(generator, rows)) for _ in range(2000)]
    p = np.array(randomisation_tests(pairs, DRAWS))
    for level in (0.05, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / 2000))


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_of_many_metrics_without_a_difference_any_is_claimed_5_times_in_a_hundred_at_most(alike: float) -> None:
    """Eight metrics each time, unlike each other or nearly the same."""
    generator = np.random.default_rng(2)
    families = 1000
    pairs = list[Pair]()
    for _ in range(families):
        shared = generator.standard_normal(40)
        for _ in range(8):
            difference = alike * shared + math.sqrt(1 - alike**2) * generator.standard_normal(40)
            pairs.append((mean_score(difference), mean_score(np.zeros(40))))
    p = np.array(randomisation_tests(pairs, DRAWS)).reshape(families, 8)
    alone = (p.min(axis=1) <= ALPHA).mean()
    together = np.mean([min(holm(family)) <= ALPHA for family in p.tolist()])
    assert together <= ALPHA + 2.5 * math.sqrt(ALPHA * (1 - ALPHA) / families)
    assert alone > 2 * together


def found(pairs: list[Pair]) -> float:
    """How often the first model is called better."""
    p = randomisation_tests(pairs, DRAWS)
    beside = estimates(pairs)
    rows = int(pairs[0][0].used.sum())
    verdicts = [
        verdict_of("exactMatch", "higher", rows, each.difference, chance)
        for each, chance in zip(beside, p, strict=True)
    ]
    assert "worse" not in verdicts
    return verdicts.count("better") / len(pairs)


def test_a_better_model_is_found_better_four_times_in_five_at_the_difference_that_is_promised() -> None:
    generator = np.random.default_rng(3)
    rows, deviation = 150, 0.4
    promised = detectable_difference(deviation / math.sqrt(rows))

    def pair(difference: float) -> Pair:
        base = generator.random(rows)
        return mean_score(base + difference + deviation * generator.standard_normal(rows)), mean_score(base)

    assert found([pair(promised) for _ in range(2000)]) == pytest.approx(0.8, abs=0.03)
    assert found([pair(promised / 2) for _ in range(200)]) < 0.4
    assert found([pair(promised * 2) for _ in range(200)]) > 0.99


def test_the_difference_that_rows_show_is_estimated_from_the_rows() -> None:
    """A corpus metric, of whose spread nobody knows a formula: 80% are found at the difference that was estimated."""
    generator = np.random.default_rng(4)
    rows = 200
    measured = estimates([(ratio(generator, rows, 0.04), ratio(generator, rows)) for _ in range(100)])
    errors = [each.error for each in measured]
    promised = detectable_difference(float(np.mean(errors)))
    pairs = [(ratio(generator, rows, promised / 100), ratio(generator, rows)) for _ in range(2000)]
    assert found(pairs) == pytest.approx(0.8, abs=0.03)


def test_the_promise_holds_after_the_correction() -> None:
    """One of eight metrics has a difference."""
    generator = np.random.default_rng(6)
    rows, families = 100, 1000
    promised = detectable_difference(1 / math.sqrt(rows), tests=8)
    assert promised > detectable_difference(1 / math.sqrt(rows)) * 1.2
    pairs = [
        (mean_score(generator.standard_normal(rows) + promised * (metric == 0)), mean_score(np.zeros(rows)))
        for _ in range(families)
        for metric in range(8)
    ]
    p = np.array(randomisation_tests(pairs, DRAWS)).reshape(families, 8)
    shown = np.mean([holm(family)[0] <= ALPHA for family in p.tolist()])
    assert shown == pytest.approx(0.8, abs=0.04)


def rows_of_the_page() -> list[tuple[float, float, int, int]]:
    """Difference, share of rows on which models disagree, rows for one comparison and for eight."""
    page = Path(__file__).parents[3] / "docs" / "statistics.md"
    lines = re.findall(r"^\| (0\.\d+) \| (0\.\d+) \| ([\d,]+) \| ([\d,]+) \|$", page.read_text("utf-8"), re.MULTILINE)
    return [(float(d), float(q), int(one.replace(",", "")), int(eight.replace(",", ""))) for d, q, one, eight in lines]


def test_the_pages_table_of_rows_is_that_of_its_formula() -> None:
    table = rows_of_the_page()
    assert len(table) == 8
    for difference, disagree, one, eight in table:
        spread = math.sqrt(disagree - difference**2)
        assert (one, eight) == tuple(
            rows_needed(1, detectable_difference(spread, tests), difference) for tests in (1, 8)
        )


def test_so_many_rows_as_the_page_says_do_show_the_difference() -> None:
    """Two models that are right on shares of the rows that differ by 0.1, and disagree on 40% of them."""
    generator = np.random.default_rng(7)
    difference, disagree, rows, _ = rows_of_the_page()[1]
    assert (difference, disagree) == (0.1, 0.4)
    pairs = list[Pair]()
    for _ in range(1000):
        which = generator.choice(3, rows, p=[0.6, 0.25, 0.15])
        pairs.append((mean_score(np.where(which == 1, 1.0, 0.0)), mean_score(np.where(which == 2, 1.0, 0.0))))
    assert found(pairs) == pytest.approx(0.8, abs=0.04)


def test_four_times_the_rows_show_half_the_difference() -> None:
    assert rows_needed(100, detectable=0.2, difference=0.1) == 400
    assert rows_needed(100, detectable=0.2, difference=0.2) == 100
    assert rows_needed(100, detectable=0.1, difference=0.2) == 25


@pytest.mark.parametrize("tests", [1, 8, 100, 600])
def test_however_many_tests_there_are_one_can_be_passed(tests: int) -> None:
    draws = draws_for(tests)
    assert draws >= RANDOMISATIONS
    assert holm([1 / (1 + draws)] + [1.0] * (tests - 1))[0] < ALPHA / 10
