"""The evaluated model beside others, all metrics and comparisons at once."""

import math
import time
from collections.abc import Sequence

import numpy as np
import pytest

from tunesmith.api.evaluation import Detect
from tunesmith.evaluation.compare import Scored, metric_reports, row_warnings, size_warnings
from tunesmith.evaluation.significance import detectable_difference, holm
from tunesmith.evaluation.statistics import Floats, RowScores, mean_score, mean_share, perplexity
from tunesmith.evaluation.verdict import better_of


def scored(name: str, tuned: RowScores, **others: RowScores) -> Scored:
    return Scored(name, better_of(name), tuned, others)


def shares(generator: np.random.Generator, rows: int, right: float) -> RowScores:
    return mean_share((generator.random(rows) < right).astype(float))


def test_a_model_beside_itself_shows_no_difference_whatever_the_metric() -> None:
    generator = np.random.default_rng(0)
    exact, tokens = shares(generator, 50, 0.4), generator.integers(1, 20, 50).astype(float)
    losses = perplexity(generator.gamma(2 * tokens), tokens)
    reports = metric_reports([scored("exactMatch", exact, base=exact), scored("perplexity", losses, base=losses)])
    for report in reports:
        assert report.base is not None
        assert (report.base.p, report.base.corrected_p, report.base.verdict) == (1, 1, "no difference shown")
        assert report.base.value.value == pytest.approx(report.tuned.value)
        assert report.base.difference.value == 0
        assert (report.base.effect, report.base.detectable) == (None, None)
    exactly, perplexities = (report.base.difference for report in reports if report.base is not None)
    assert (exactly.low, exactly.high) == pytest.approx((-0.0711, 0.0711), abs=1e-4), "another row may differ"
    assert (perplexities.low, perplexities.high) == (0, 0)


def test_two_figures_of_one_model_pass_for_a_difference_once_in_twenty_evaluations_at_most() -> None:
    """Four metrics beside a base and an earlier job each time, all of them alike."""
    generator = np.random.default_rng(1)
    claimed = 0

    def alike() -> RowScores:
        return shares(generator, 40, 0.5)

    for _ in range(60):
        reports = metric_reports(
            [scored(name, alike(), base=alike(), old=alike()) for name in ("exactMatch", "tokenF1", "accuracy", "chrf")]
        )
        verdicts = {comparison.verdict for report in reports for comparison in report.comparisons}
        claimed += verdicts != {"no difference shown"}
    assert claimed <= 7  # 3 expected at most; more than 7 of 60 happens once in a hundred times


def test_better_and_worse_are_told_from_the_direction_of_the_metric() -> None:
    generator = np.random.default_rng(2)
    low = mean_score(generator.random(60))
    high = mean_score(low.parts[:, 0] + 0.5 + 0.1 * generator.random(60))
    cases = [
        ("exactMatch", "better", "worse"),
        ("perplexity", "worse", "better"),
        ("answerTokens", "longer", "shorter"),
    ]
    for name, above, below in cases:
        up, down = metric_reports([scored(name, high, base=low)]), metric_reports([scored(name, low, base=high)])
        assert up[0].base is not None and down[0].base is not None
        assert (up[0].base.verdict, down[0].base.verdict) == (above, below)
    (apart,) = metric_reports([scored("divergence", high, base=low)])
    assert apart.base is not None
    assert (apart.base.p, apart.base.corrected_p, apart.base.verdict) == (None, None, "")


def test_the_correction_is_over_all_metrics_and_comparisons_and_the_win_rate() -> None:
    generator = np.random.default_rng(3)

    def one(right: float) -> RowScores:
        return shares(generator, 80, right)

    wins = mean_score(generator.choice([0, 0.5, 1], 80, p=[0.2, 0.2, 0.6]))
    reports = metric_reports(
        [
            scored("exactMatch", one(0.5), base=one(0.3), old=one(0.4)),
            scored("tokenF1", one(0.5), base=one(0.5)),
            scored("winRate", wins),
            scored("divergence", one(0.5), base=one(0.2)),
        ]
    )
    chances = [(c.p, c.corrected_p) for report in reports for c in report.comparisons]
    chances.append((reports[2].p, reports[2].corrected_p))
    tested = [(p, corrected) for p, corrected in chances if p is not None]
    assert len(tested) == 4
    assert [corrected for _, corrected in tested] == pytest.approx(holm([p for p, _ in tested]))


def test_what_a_single_metric_shows_may_not_show_among_many() -> None:
    generator = np.random.default_rng(4)
    base, noise = generator.random(40), generator.standard_normal(40)
    noise -= noise.mean()
    tuned = mean_score(base + noise / noise.std() + detectable_difference(1 / math.sqrt(40)))
    metric = scored("exactMatch", tuned, base=mean_score(base))
    others = [scored("tokenF1", shares(generator, 40, 0.5), base=shares(generator, 40, 0.5)) for _ in range(30)]
    (alone,), among = metric_reports([metric]), metric_reports([metric, *others])[0]
    assert alone.base is not None and among.base is not None
    assert (alone.base.verdict, among.base.verdict) == ("better", "no difference shown")
    assert alone.base.detectable is not None and among.base.detectable is not None
    assert among.base.detectable > 1.2 * alone.base.detectable
    assert among.base.effect == alone.base.effect


def test_the_effect_is_the_difference_in_standard_deviations_of_a_rows_difference() -> None:
    generator = np.random.default_rng(5)
    base = generator.random(200)
    difference = 0.3 + 0.6 * generator.standard_normal(200)
    (report,) = metric_reports([scored("tokenF1", mean_score(base + difference), base=mean_score(base))])
    assert report.base is not None
    assert report.base.effect == pytest.approx(difference.mean() / difference.std(), rel=0.05)
    assert report.base.detectable == pytest.approx(2.8016 * difference.std() / math.sqrt(200), rel=0.05)


def test_a_win_rate_is_held_against_a_half_and_is_no_comparison_of_its_own() -> None:
    generator = np.random.default_rng(6)
    for share, verdict in ((0.8, "better"), (0.5, "no difference shown"), (0.2, "worse")):
        (report,) = metric_reports([scored("winRate", shares(generator, 100, share))])
        assert report.comparisons == []
        assert report.verdict == verdict
        assert report.detectable == pytest.approx(2.8 * math.sqrt(share * (1 - share) / 100), rel=0.15)
    (few,) = metric_reports([scored("winRate", mean_score(np.ones(5)))])
    assert few.verdict == "too few rows to tell"


def test_models_are_compared_on_the_rows_that_count_for_both() -> None:
    """The base could not answer the last two rows, on which the tuned model is bad."""
    tuned = mean_score(np.array([1.0] * 8 + [0, 0]))
    base = mean_score(np.array([0.0] * 8 + [0, 0]), np.array([1.0] * 8 + [0, 0]))
    metric = scored("reward", tuned, base=base)
    (report,) = metric_reports([metric])
    assert report.base is not None
    assert (report.rows, report.tuned.value, report.base.difference.value) == (10, 0.8, 1)
    assert list(row_warnings([metric])) == [
        "reward is compared with base on the 8 of 10 rows that count for both",
    ]
    nothing = scored("reward", tuned, base=mean_score(np.zeros(10), np.zeros(10)))
    assert metric_reports([nothing])[0].comparisons == []
    assert list(row_warnings([nothing])) == ["reward is compared with base on the 0 of 10 rows that count for both"]


def warnings(difference: float, *metrics: Scored, metric: str = "exactMatch") -> list[str]:
    detect = Detect.model_validate({"metric": metric, "difference": difference})
    return list(size_warnings([detect], metric_reports(metrics)))


def test_a_test_set_too_small_for_what_is_asked_of_it() -> None:
    generator = np.random.default_rng(7)
    metric = scored("exactMatch", shares(generator, 200, 0.5), base=shares(generator, 200, 0.5))
    (warning,) = warnings(0.05, metric)
    (report,) = metric_reports([metric])
    assert report.base is not None and report.base.detectable is not None
    needed = math.ceil(200 * (report.base.detectable / 0.05) ** 2)
    assert warning == (
        f"exactMatch beside base: 200 rows show a difference of {report.base.detectable:.3f} in four of five cases, "
        f"not 0.050; it would take about {needed:,} rows"
    )
    assert warnings(0.3, metric) == []
    assert warnings(0.05, scored("winRate", shares(generator, 100, 0.5)), metric="winRate")[0].startswith(
        "winRate beside a half: 100 rows show a difference of 0.1"
    )


@pytest.mark.parametrize(
    ("metrics", "warning"),
    [
        ([], "detect: exactMatch was not measured; there are bleu"),
        (
            [scored("exactMatch", mean_score(np.ones(9)))],
            "detect: exactMatch is compared with no other model: set compareWithBase or compareWith",
        ),
        (
            [scored("exactMatch", mean_score(np.ones(9)), base=mean_score(np.ones(9)))],
            "exactMatch beside base: 9 rows do not tell what difference they would show, since no row differs from "
            "another",
        ),
        (
            [scored("exactMatch", mean_score(np.arange(5.0)), base=mean_score(np.ones(5)))],
            "exactMatch beside base: 5 rows show no difference, however large; 6 are the fewest that can",
        ),
    ],
)
def test_what_cannot_be_told_of_the_size(metrics: Sequence[Scored], warning: str) -> None:
    assert warnings(0.1, *metrics, scored("bleu", mean_score(np.arange(9.0)))) == [warning]


def f_measure(sums: Floats) -> Floats:
    """Of 20 classes: hits, guesses and references of each."""
    hits, guesses, references = np.split(sums, 3, axis=-1)
    f: Floats = (2 * hits / (guesses + references)).mean(axis=-1)
    return f


def test_ten_thousand_rows_of_eight_metrics_and_two_comparisons_take_seconds() -> None:
    generator = np.random.default_rng(8)
    rows, models = 10_000, range(3)
    metrics = [
        (name, [shares(generator, rows, 0.4 + 0.01 * model) for model in models])
        for name in ("exactMatch", "tokenF1", "rouge1", "rouge2", "rougeL", "meteor", "chrf")
    ]
    ones, truth = np.eye(20), generator.integers(20, size=rows)
    guesses = [np.where(generator.random(rows) < 0.4, truth, generator.integers(20, size=rows)) for _ in models]
    parts = [np.concatenate([ones[g] * (g == truth)[:, None], ones[g], ones[truth]], axis=1) for g in guesses]
    metrics.append(("macroF1", [RowScores(p, np.ones(rows, np.bool_), f_measure) for p in parts]))
    started = time.process_time()
    reports = metric_reports([scored(name, m[0], base=m[1], old=m[2]) for name, m in metrics])
    assert time.process_time() - started < 30
    assert all(len(report.comparisons) == 2 for report in reports)
