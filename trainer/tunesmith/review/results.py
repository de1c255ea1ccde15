"""What the ratings of a set show, and how far they can be trusted."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from tunesmith.api.base import Record
from tunesmith.api.outcome import Interval
from tunesmith.evaluation.statistics import CONFIDENCE, FEWEST_ROWS, Floats, RowScores, mean_score, resampled_sums
from tunesmith.evaluation.verdict import Verdict, verdict_of
from tunesmith.review.agreement import ENOUGH, LEVELS, TENTATIVE, Level, alpha_interval
from tunesmith.review.folder import Key
from tunesmith.review.interval import draws_of, interval_of
from tunesmith.review.judged import Judged, counts_of, judged_items, scored, wins_of
from tunesmith.review.kinds import Kind
from tunesmith.review.strength import is_separated, strengths

WANTED_HALF_WIDTH = 0.1
"""Half an interval of a win rate that still says something."""


class ModelResult(Record):
    """One model."""

    name: str
    mean: Interval | None = None
    """Of its Likert ratings, 1 to 5."""
    win_rate: Interval | None = None
    """How often it is preferred to another model; ties count half."""
    strength: Interval | None = None
    """Bradley-Terry: its log-odds against a model of strength 0, which is the mean of all."""


class PairResult(Record):
    """Two models on the rows that were rated for both."""

    model: str
    other: str
    rows: int
    ties: float | None = None
    """The share of ratings that are ties; of rankings and Likert ratings none."""
    win_rate: Interval | None = None
    """How often the first is preferred to the second; ties count half."""
    difference: Interval | None = None
    """Of Likert means, the first - the second."""
    verdict: Verdict
    """Of the first; corrected for the number of pairs (Bonferroni), so it may ask for more than the interval."""


class Agreement(Record):
    """Krippendorff's alpha."""

    level: Level
    """What ratings are taken for."""
    items: int
    """Rated by two at least."""
    alpha: Interval | None = None
    """None where it cannot be told."""


class FirstPlace(Record):
    """Whether the answer that stands first is preferred for standing there."""

    preferred: Interval
    """How often it was; ties count half."""
    expected: float
    """How often it would be without such a taste."""
    verdict: Literal["shown", "not shown"]


class RaterResult(Record):
    """What a rater gave."""

    name: str
    rated: int
    ties: float | None = None
    """Share of its ratings; only where ties are possible."""
    mean: float | None = None
    """Of its Likert ratings."""
    first: float | None = None
    """How often it preferred the answer that stood first."""


class ReviewResults(Record):
    """Everything that results.json holds."""

    id: str
    kind: Kind
    items: int
    rated: int
    """Items that somebody has rated."""
    rows: int
    """Test rows that all models answered."""
    same: int
    """Rows, or rows with two of the models, whose answers are the same: not asked about, and not counted."""
    left_out: int
    agreement: Agreement
    models: list[ModelResult]
    pairs: list[PairResult]
    first_place: FirstPlace | None = None
    raters: list[RaterResult]
    warnings: list[str]
    """What the ratings cannot show, a sentence each."""


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
        pairs, separated = _differences(models, scores), False
    else:
        wins = wins_of(judged, models)
        results, separated = _standings(models, wins)
        pairs = _duels(kind, models, wins, judged)
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
        pairs=pairs,
        first_place=_first_place(judged) if kind != "likert" else None,
        raters=[_rater(rater, kind, [item for item in judged if rater in item.points]) for rater in ratings],
        warnings=[],
    )
    return found.model_copy(update={"warnings": _warnings(found, separated)})


def _interval(scores: RowScores) -> Interval | None:
    return interval_of(draws_of(scores)) if scores.used.any() else None


def _verdict(draws: Floats, rows: int, comparisons: int, equal: float) -> Verdict:
    """What one of several comparisons shows: each gets its share of the error that all may make."""
    corrected = interval_of(draws, 1 - (1 - CONFIDENCE) / comparisons)
    return verdict_of("winRate", "higher", rows, corrected, equal)


def _differences(models: Sequence[str], scores: Sequence[RowScores]) -> list[PairResult]:
    """Of Likert means, on the rows that were rated for both."""
    pairs = [(one, other) for one in range(len(models)) for other in range(one + 1, len(models))]
    found = []
    for one, other in pairs:
        used = scores[one].used & scores[other].used
        parts = np.concatenate([scores[one].parts, scores[other].parts], axis=1)
        if not used.any():
            continue
        draws = draws_of(RowScores(parts, used, lambda sums: sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]))
        rows = int(used.sum())
        found.append(
            PairResult(
                model=models[one],
                other=models[other],
                rows=rows,
                difference=interval_of(draws),
                verdict=_verdict(draws, rows, len(pairs), 0.0),
            )
        )
    return found


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
        rate = _interval(RowScores(own, own.sum(axis=1) > 0, _share))
        found.append(ModelResult(name=name, win_rate=rate, strength=interval_of(fitted[:, place]) if rate else None))
    return found, is_separated(total)


def _duels(kind: Kind, models: Sequence[str], wins: Floats, judged: Sequence[Judged]) -> list[PairResult]:
    """Each two models."""
    pairs = [(one, other) for one in range(len(models)) for other in range(one + 1, len(models))]
    found = []
    for one, other in pairs:
        parts = np.stack([wins[:, one, other], wins[:, other, one]], axis=1)
        scores = RowScores(parts, parts.sum(axis=1) > 0, _share)
        if not scores.used.any():
            continue
        draws, rows = draws_of(scores), int(scores.used.sum())
        shown = [item for item in judged if {models[one], models[other]} <= item.models]
        given = [points for item in shown for points in item.points.values()]
        found.append(
            PairResult(
                model=models[one],
                other=models[other],
                rows=rows,
                ties=float(np.mean([a == b for a, b in given])) if kind == "pairwise" else None,
                win_rate=interval_of(draws),
                verdict=_verdict(draws, rows, len(pairs), 0.5),
            )
        )
    return found


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
