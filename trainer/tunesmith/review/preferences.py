"""Ratings as what objective `reward` learns from: preference pairs, or answers with a rating."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from tunesmith.review.folder import Item
from tunesmith.review.kinds import Kind, points


@dataclass(frozen=True)
class Preferences:
    """Rows for a data set."""

    rows: list[dict[str, Any]]
    """prompt, chosen, rejected and margin; of Likert ratings prompt, response and rating."""
    ties: int
    """Pairs of answers that no majority tells apart; left out."""
    unrated: int
    """Items that nobody has rated."""


def preferences_of(kind: Kind, items: Iterable[Item], ratings: Mapping[str, Mapping[int, str]]) -> Preferences:
    """Ratings of several raters count as their mean; the margin is the difference of what two answers got.

    Args:
        kind: what was asked.
        items: what raters saw.
        ratings: value by item, by rater.
    """
    rows: list[dict[str, Any]] = []
    ties = unrated = 0
    for item in items:
        given = [points(kind, of[item.item]) for of in ratings.values() if item.item in of]
        if not given:
            unrated += 1
            continue
        means = np.mean(given, axis=0).round(6).tolist()
        if kind == "likert":
            rows.append({"prompt": item.prompt, "response": item.answers[0], "rating": means[0]})
            continue
        for one, other in combinations(range(len(means)), 2):
            if means[one] == means[other]:
                ties += 1
                continue
            chosen, rejected = (one, other) if means[one] > means[other] else (other, one)
            answers = {"chosen": item.answers[chosen], "rejected": item.answers[rejected]}
            rows.append({"prompt": item.prompt, **answers, "margin": round(means[chosen] - means[rejected], 6)})
    return Preferences(rows, ties, unrated)
