"""What the ratings of a set show, and how far they can be trusted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tunesmith.api.outcome import Interval
from tunesmith.evaluation.significance import draws_for, holm, randomisation_tests
from tunesmith.evaluation.statistics import (
    FEWEST_ROWS,
    Floats,
    RowScores,
    estimate,
    estimates,
    mean_score,
    on_common_rows,
    resampled_sums,
)
from tunesmith.evaluation.verdict import verdict_of
from tunesmith.review.agreement import ENOUGH, LEVELS, TENTATIVE, alpha_interval
from tunesmith.review.folder import Key
from tunesmith.review.interval import interval_of
from tunesmith.review.judged import Judged, counts_of, judged_items, scored, wins_of
from tunesmith.review.kinds import Kind
from tunesmith.review.report import Agreement, FirstPlace, ModelResult, PairResult, RaterResult, ReviewResults
from tunesmith.review.strength import is_separated, strengths

WANTED_HALF_WIDTH = 0.1
"""Half an interval of a win rate that still says something."""


def results_of(name: str, kind: Kind, key: Key, ratings: Mapping[str, Mapping[int, str]]) -> ReviewResults:
    """What ratings show.

    Args:
        name: of the set.
        kind: what was asked.
        key: whose answers were shown.
        ratings: value by item, by rater; at least one.
    """
    judged = judged_items(kind, key, ratings)
    models = list(key.models)
    if kind == "likert":
        scores = [scored(judged, model) for model in models]
        results = [ModelResult(name=m, mean=_interval(s)) for m, s in zip(models, scores, strict=True)]
        contests, separated = list(_likert_contests(models, scores)), False
    else:
        wins = wins_of(judged, models)
        results, separated = _standings(models, wins)
        contests = list(_duels(kind, models, wins, judged))
    level = LEVELS[kind]
    counts = [counts_of(item) for item in judged]
    agreement = Agreement(
        level=level,
        items=sum(len(item.points) > 1 for item in judged),
        alpha=alpha_interval(counts, level),
    )
    found = ReviewResults(
        id=name,
        kind=kind,
        items=len(key.items),
        rated=len(judged),
        rows=key.rows,
        same=key.same,
        left_out=key.left_out,
        agreement=agreement,
        models=results,
        pairs=_pairs(kind, contests),
        first_place=_first_place(judged) if kind != "likert" else None,
        raters=[_rater(rater, kind, [item for item in judged if rater in item.points]) for rater in ratings],
        warnings=[],
    )
    return found.model_copy(update={"warnings": _warnings(found, separated)})


def _interval(scores: RowScores) -> Interval | None:
    return estimate(scores).tuned if scores.used.any() else None


@dataclass(frozen=True)
class _Contest:
    """Two models by one figure, on the rows that were rated for both."""

    model: str
    other: str
    first: RowScores
    second: RowScores
    """As it is were the two exchanged, row by row."""
    ties: float | None = None


def _pairs(kind: Kind, contests: Sequence[_Contest]) -> list[PairResult]:
    """What ratings show of each two models, with one correction for all of them."""
    scores = [(contest.first, contest.second) for contest in contests]
    chances = randomisation_tests(scores, draws_for(len(scores)))
    found = []
    for contest, of, p, corrected in zip(contests, estimates(scores), chances, holm(chances), strict=True):
        rows = int(contest.first.used.sum())
        found.append(
            PairResult(
                model=contest.model,
                other=contest.other,
                rows=rows,
                ties=contest.ties,
                win_rate=None if kind == "likert" else of.tuned,
                difference=of.difference if kind == "likert" else None,
                p=p,
                corrected_p=corrected,
                verdict=verdict_of("winRate", "higher", rows, of.difference, corrected),
            )
        )
    return found


def _likert_contests(models: Sequence[str], scores: Sequence[RowScores]) -> Iterator[_Contest]:
    for one, other in combinations(range(len(models)), 2):
        first, second = on_common_rows(scores[one], scores[other])
        if first.used.any():
            yield _Contest(models[one], models[other], first, second)


def _share(sums: Floats) -> Floats:
    share: Floats = sums[..., 0] / sums.sum(axis=-1)
    return share


def _standings(models: Sequence[str], wins: Floats) -> tuple[list[ModelResult], bool]:
    """Each model against all others, and whether one won or lost everything.

    Args:
        models: their names.
        wins: of each row, how often each was preferred to each; [rows, models, models].
    """
    total = wins.sum(axis=0)
    again = resampled_sums(wins.reshape(len(wins), -1)).reshape(-1, len(models), len(models))
    best = strengths(total)
    fitted = np.stack([best, *(strengths(sums, best) for sums in again)])
    found = []
    for place, name in enumerate(models):
        own = np.stack([wins[:, place].sum(axis=1), wins[:, :, place].sum(axis=1)], axis=1)
        rate = _interval(RowScores(own, own.sum(axis=1) > 0, _share, is_share=True))
        found.append(ModelResult(name=name, win_rate=rate, strength=interval_of(fitted[:, place]) if rate else None))
    return found, is_separated(total)


def _duels(kind: Kind, models: Sequence[str], wins: Floats, judged: Sequence[Judged]) -> Iterator[_Contest]:
    """Each two models, by who was preferred: exchanged, a win is a loss."""
    for one, other in combinations(range(len(models)), 2):
        parts = np.stack([wins[:, one, other], wins[:, other, one]], axis=1)
        used = parts.sum(axis=1) > 0
        if not used.any():
            continue
        shown = [item for item in judged if {models[one], models[other]} <= item.models]
        given = [points for item in shown for points in item.points.values()]
        ties = float(np.mean([a == b for a, b in given])) if kind == "pairwise" else None
        first, second = (RowScores(wins, used, _share, is_share=True) for wins in (parts, parts[:, ::-1]))
        yield _Contest(models[one], models[other], first, second, ties)


def _first_place(judged: Sequence[Judged]) -> FirstPlace:
    """By item: whether the first answer was preferred, less what chance gives."""
    numbers = {row: place for place, row in enumerate(dict.fromkeys(item.row for item in judged))}
    parts = np.zeros((len(numbers), 3))
    for item in judged:
        firsts = [_first(points) for points in item.points.values()]
        parts[numbers[item.row]] += [np.mean(firsts), 1 / len(item.places), 1]
    scores = mean_score(parts[:, 0], parts[:, 2])
    beyond = _interval(mean_score(parts[:, 0] - parts[:, 1], parts[:, 2]))
    preferred = _interval(scores)
    assert preferred is not None
    assert beyond is not None
    shown = len(parts) >= FEWEST_ROWS and not beyond.low <= 0 <= beyond.high
    expected = float(parts[:, 1].sum() / parts[:, 2].sum())
    return FirstPlace(preferred=preferred, expected=expected, verdict="shown" if shown else "not shown")


def _first(points: list[int]) -> float:
    """Whether the answer that stands first is the best, 0.5 where it is one of two that are alike."""
    best = max(points)
    return (points[0] == best) / points.count(best)


def _rater(name: str, kind: Kind, judged: Sequence[Judged]) -> RaterResult:
    given = [item.points[name] for item in judged]
    if not given:
        return RaterResult(name=name, rated=0)
    if kind == "likert":
        return RaterResult(name=name, rated=len(given), mean=float(np.mean(given)))
    ties = float(np.mean([a == b for a, b in given])) if kind == "pairwise" else None
    return RaterResult(name=name, rated=len(given), ties=ties, first=float(np.mean([_first(p) for p in given])))


def _warnings(found: ReviewResults, separated: bool) -> list[str]:
    said = []
    if found.rated < found.items:
        said.append(f"{found.items - found.rated:,} of {found.items:,} items are not rated yet")
    raters = [rater for rater in found.raters if rater.rated]
    alpha = found.agreement.alpha
    if len(raters) < 2:
        said.append("one rater alone shows one person's taste: let another rate the same set")
    elif alpha is None:
        said.append("agreement cannot be told: no item was rated twice, or all ratings are alike")
    elif alpha.value < TENTATIVE:
        advice = "agree on what is good, with examples, and rate again"
        said.append(f"raters agree too little for conclusions (alpha {alpha.value:.2f}, wanted {ENOUGH}): {advice}")
    elif alpha.value < ENOUGH:
        said.append(f"raters agree enough for tentative conclusions only (alpha {alpha.value:.2f}, wanted {ENOUGH})")
    for pair in found.pairs:
        if pair.win_rate is not None and (half := (pair.win_rate.high - pair.win_rate.low) / 2) > WANTED_HALF_WIDTH:
            needed = int(np.ceil(pair.rows * (half / WANTED_HALF_WIDTH) ** 2))
            said.append(
                f"{pair.rows:,} rows tell the win rate of {pair.model} over {pair.other} within {half:.2f}; "
                f"within {WANTED_HALF_WIDTH} takes about {needed:,}"
            )
    if separated:
        said.append("a model won or lost everything: its strength is a bound, made finite by half a win for each side")
    if found.first_place is not None and found.first_place.verdict == "shown":
        place = found.first_place
        said.append(
            f"the answer that stands first was preferred in {place.preferred.value:.0%} of cases, where "
            f"{place.expected:.0%} were expected: places are balanced, so it favours no model, but it blurs all"
        )
    return said
