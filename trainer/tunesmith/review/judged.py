"""Ratings beside the key: who got what, in sums over rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.evaluation.statistics import Floats, RowScores, mean_score
from tunesmith.review.folder import Key
from tunesmith.review.kinds import VALUES, Kind, codes, points


@dataclass(frozen=True)
class Judged:
    """An item that somebody has rated."""

    row: int
    weight: float
    """How many rows of its stratum it stands for."""
    places: list[list[str]]
    """Of each place, the models whose answer it was."""
    points: dict[str, list[int]]
    """What each rater gave each place."""
    codes: dict[str, list[int]]
    """The same as numbers to agree on."""

    @property
    def models(self) -> set[str]:
        """Whose answers were shown."""
        return {model for place in self.places for model in place}


def judged_items(kind: Kind, key: Key, ratings: Mapping[str, Mapping[int, str]]) -> list[Judged]:
    """The items that somebody has rated."""
    found = []
    for item in key.items:
        given = {rater: of[item.item] for rater, of in ratings.items() if item.item in of}
        if given:
            stratum = key.strata[item.stratum]
            found.append(
                Judged(
                    row=item.row,
                    weight=stratum.units / stratum.drawn,
                    places=item.models,
                    points={rater: points(kind, value) for rater, value in given.items()},
                    codes={rater: codes(kind, value) for rater, value in given.items()},
                )
            )
    return found


def scored(judged: Sequence[Judged], model: str) -> RowScores:
    """A model's Likert ratings: the mean of several raters, by row."""
    rows = {row: place for place, row in enumerate(dict.fromkeys(item.row for item in judged))}
    sums, weights = np.zeros(len(rows)), np.zeros(len(rows))
    for item in judged:
        if model in item.models:
            place = rows[item.row]
            sums[place] += item.weight * np.mean(list(item.points.values()))
            weights[place] += item.weight
    return mean_score(sums, weights)


def wins_of(judged: Sequence[Judged], models: Sequence[str]) -> Floats:
    """How often each model was preferred to each, by row: the mean of several raters, a tie as half a win for both, and
    weighted as rows were drawn. Models that share an answer are not compared.

    Returns:
        [rows, models, models].
    """
    rows = {row: place for place, row in enumerate(dict.fromkeys(item.row for item in judged))}
    numbers = {model: place for place, model in enumerate(models)}
    wins = np.zeros((len(rows), len(models), len(models)))
    for item in judged:
        given = np.array(list(item.points.values()), np.float64)
        for first, ones in enumerate(item.places):
            for second, others in enumerate(item.places):
                if first == second:
                    continue
                ahead = float(np.mean(np.sign(given[:, first] - given[:, second]) + 1) / 2)
                for one in ones:
                    for other in others:
                        wins[rows[item.row], numbers[one], numbers[other]] += item.weight * ahead
    return wins


def counts_of(item: Judged) -> NDArray[np.int64]:
    """How often each value was given: to the item, or of a ranking to each answer; [units, values].

    Values are those that raters recorded, who knew places and no models: so by chance alone they would agree as often
    as places are balanced, however much one model is ahead.
    """
    given = np.array(list(item.codes.values()))
    counts: NDArray[np.int64] = (given.T[:, :, None] == np.array(VALUES)).sum(axis=1)
    return counts
