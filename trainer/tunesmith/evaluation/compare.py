"""The evaluated model beside others: all comparisons of an evaluation at once, since one test corrects another."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tunesmith.api.evaluation import Detect
from tunesmith.evaluation.figures import number_text
from tunesmith.evaluation.report import Comparison, MetricReport
from tunesmith.evaluation.significance import (
    detectable_difference,
    draws_for,
    holm,
    mirrored,
    randomisation_tests,
    rows_needed,
)
from tunesmith.evaluation.statistics import FEWEST_ROWS, Estimate, RowScores, estimates, on_common_rows
from tunesmith.evaluation.verdict import Better, is_tested, verdict_of

_WIN_RATE = "winRate"
"""A comparison with the base itself: it is held against a half."""


@dataclass(frozen=True)
class Scored:
    """One metric of the evaluated model, and of others on the same rows."""

    name: str
    better: Better
    tuned: RowScores
    others: Mapping[str, RowScores] = field(default_factory=dict)
    """The base first, as base; then by the addresses of evaluation.compareWith."""


@dataclass(frozen=True)
class _Contest:
    """Two models by one metric, on the rows that count for both."""

    metric: Scored
    to: str
    tuned: RowScores
    other: RowScores

    @property
    def rows(self) -> int:
        return int(self.tuned.used.sum())

    @property
    def is_tested(self) -> bool:
        return is_tested(self.metric.name, self.metric.better)


def metric_reports(scored: Sequence[Scored]) -> list[MetricReport]:
    """All metrics of an evaluation, with intervals, tests and verdicts; one report for each.

    Args:
        scored: all of them at once: Holm's correction is over every metric and every comparison.
    """
    alone = estimates([(metric.tuned, None) for metric in scored])
    contests = [[contest for contest in _contests(metric) if contest.rows] for metric in scored]
    flat = [contest for some in contests for contest in some]
    tested = [(contest.tuned, contest.other) for contest in flat if contest.is_tested]
    p = randomisation_tests(tested, draws_for(len(tested)))
    chances = iter(zip(p, holm(p), strict=True))
    compared = iter(
        [
            _comparison(contest, estimate, next(chances) if contest.is_tested else None, len(tested))
            for contest, estimate in zip(flat, estimates([(c.tuned, c.other) for c in flat]), strict=True)
        ]
    )
    return [
        _report(metric, estimate, list(itertools.islice(compared, len(some))))
        for metric, estimate, some in zip(scored, alone, contests, strict=True)
    ]


def _contests(metric: Scored) -> Iterator[_Contest]:
    others = {"base": mirrored(metric.tuned)} if metric.name == _WIN_RATE else metric.others
    for to, other in others.items():
        yield _Contest(metric, to, *on_common_rows(metric.tuned, other))


def _comparison(contest: _Contest, estimate: Estimate, chances: tuple[float, float] | None, tests: int) -> Comparison:
    assert estimate.base is not None and estimate.difference is not None
    p, corrected = chances or (None, None)
    error, rows, metric = estimate.error, contest.rows, contest.metric
    return Comparison(
        to=contest.to,
        value=estimate.base,
        difference=estimate.difference,
        p=p,
        corrected_p=corrected,
        effect=estimate.difference.value / (error * math.sqrt(rows)) if error > 0 else None,
        detectable=detectable_difference(error, tests) if error > 0 and tests else None,
        verdict=verdict_of(metric.name, metric.better, rows, estimate.difference, corrected),
    )


def _report(metric: Scored, estimate: Estimate, comparisons: list[Comparison]) -> MetricReport:
    report = MetricReport(
        name=metric.name,
        better=metric.better,
        rows=int(metric.tuned.used.sum()),
        tuned=estimate.tuned,
        comparisons=comparisons,
    )
    if metric.name != _WIN_RATE:
        return report
    (mirror,) = comparisons  # the difference from the base's win rate is twice that from a half
    own: dict[str, object] = {
        "comparisons": [],
        "p": mirror.p,
        "corrected_p": mirror.corrected_p,
        "detectable": mirror.detectable / 2 if mirror.detectable is not None else None,
        "verdict": mirror.verdict,
    }
    return report.model_copy(update=own)


def row_warnings(scored: Iterable[Scored]) -> Iterator[str]:
    """Comparisons that stand on fewer rows than the metric, a sentence each."""
    for metric in scored:
        for contest in _contests(metric):
            all_rows = int(metric.tuned.used.sum())
            if contest.rows < all_rows:
                counted = f"{contest.rows:,} of {all_rows:,} rows"
                yield f"{metric.name} is compared with {contest.to} on the {counted} that count for both"


def size_warnings(asked: Iterable[Detect], metrics: Iterable[MetricReport]) -> Iterator[str]:
    """Where the test set is too small for a difference that it should show, a sentence each."""
    found = {metric.name: metric for metric in metrics}
    for detect in asked:
        metric = found.get(detect.metric)
        if metric is None:
            yield f"detect: {detect.metric} was not measured; there are {', '.join(found)}"
            continue
        sizes = [(c.to, c.detectable) for c in metric.comparisons]
        if metric.name == _WIN_RATE:
            sizes = [("a half", metric.detectable)]
        if not sizes:
            yield f"detect: {metric.name} is compared with no other model: set compareWithBase or compareWith"
        for to, detectable in sizes:
            yield from _size_warning(detect, metric, to, detectable)


def _size_warning(detect: Detect, metric: MetricReport, to: str, detectable: float | None) -> Iterator[str]:
    start = f"{metric.name} beside {to}: {metric.rows:,} rows"
    if metric.rows < FEWEST_ROWS:
        yield f"{start} show no difference, however large; {FEWEST_ROWS} are the fewest that can"
    elif detectable is None:
        yield f"{start} do not tell what difference they would show, since no row differs from another"
    elif detectable > detect.difference:
        needed = rows_needed(metric.rows, detectable, detect.difference)
        yield (
            f"{start} show a difference of {number_text(detectable)} in four of five cases, "
            f"not {number_text(detect.difference)}; it would take about {needed:,} rows"
        )
