"""Draws what raters are asked: rows evenly over strata of how far models differ, blinded, in an order of their own.

Rows on which the models differ are few where two models are much alike, and tell most. So each stratum gives as many
rows as the others, and results weigh them by the strata's sizes, as if rows had been drawn from all alike (stratified
sampling; Cochran 1977, Sampling Techniques, ch. 5).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tunesmith.api.load import InputError, Problem
from tunesmith.review.folder import Item, Key, KeyedItem, SetInfo, Stratum
from tunesmith.review.kinds import LETTERS, Kind
from tunesmith.review.rows import Answered, Row, metrics_of


@dataclass(frozen=True)
class Unit:
    """What is drawn: a row, with those models that it is about."""

    row: Row
    models: tuple[str, ...]
    groups: list[list[str]]
    """Models that gave the same answer stand together: it is shown once."""
    spread: float | None
    """Between the best and the worst score; None without scores."""


@dataclass(frozen=True)
class Drawn:
    """A set, ready to be written."""

    info: SetInfo
    items: list[Item]
    key: Key


def draw_set(
    answered: Answered, kind: Kind, rows: int, seed: int, metric: str | None = None, show_reference: bool = False
) -> Drawn:
    """Draws a set.

    Args:
        answered: what the models answered.
        kind: what is asked.
        rows: how many are drawn; for pairwise, rows with two of the models. All, where there are fewer.
        seed: the same seed draws the same set.
        metric: what says how far models differ; by default the first that all answers have.
        show_reference: whether raters see the right answer.

    Raises:
        InputError: the kind does not go with so many models, there is no such metric, or the models do not differ.
    """
    _refuse_models(kind, len(answered.models))
    metric = _metric(answered, metric)
    units = [_unit(row, models, metric) for models in _groupings(kind, list(answered.models)) for row in answered.rows]
    asked = [unit for unit in units if kind == "likert" or len(unit.groups) > 1]
    if not asked:
        raise InputError("the models gave the same answer to every row: there is nothing to compare")
    rng = np.random.default_rng(seed)
    strata: list[Stratum] = []
    chosen: list[tuple[Unit, int]] = []
    parts = _strata(asked, kind)
    for (name, members), share in zip(parts.items(), shares([len(m) for m in parts.values()], rows), strict=True):
        picks = sorted(rng.choice(len(members), share, replace=False).tolist())
        chosen += [(members[pick], len(strata)) for pick in picks]
        strata.append(Stratum(name=name, units=len(members), drawn=share))
    shown = _placed(chosen, kind, rng)
    items, keyed = [], []
    for number, index in enumerate(rng.permutation(len(shown)).tolist(), start=1):
        unit, stratum, groups = shown[index]
        reference = unit.row.reference if show_reference else None
        answers = [unit.row.answers[group[0]] for group in groups]
        items.append(Item(item=number, prompt=unit.row.prompt, reference=reference, answers=answers))
        keyed.append(KeyedItem(item=number, row=unit.row.number, stratum=stratum, models=groups))
    key = Key(
        models=answered.models,
        seed=seed,
        rows=len(answered.rows),
        left_out=answered.left_out,
        same=len(units) - len(asked),
        metric=metric,
        strata=strata,
        items=keyed,
    )
    return Drawn(SetInfo(id=_name(kind, items), kind=kind, items=len(items)), items, key)


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """Shares of a total, as even as the sizes allow."""
    given = [0] * len(sizes)
    for _ in range(min(total, sum(sizes))):
        smallest = min((place for place in range(len(sizes)) if given[place] < sizes[place]), key=given.__getitem__)
        given[smallest] += 1
    return given


def _refuse_models(kind: Kind, models: int) -> None:
    fewest, most = {"likert": (1, 26), "pairwise": (2, 26), "ranking": (3, len(LETTERS)), "ab": (2, 2)}[kind]
    if not fewest <= models <= most:
        needed = str(fewest) if fewest == most else f"{fewest} to {most}"
        message = f"{kind} needs {needed} models, and there are {models}"
        if models == 1:
            message += "; name another run, or evaluate this one with compareWithBase"
        elif kind == "ranking" and models < fewest:
            message += "; of two take pairwise"
        raise InputError(Problem(message, "--kind"))


def _metric(answered: Answered, metric: str | None) -> str | None:
    known = metrics_of(answered)
    if metric is None:
        return known[0] if known else None
    if metric not in known:
        listing = ", ".join(known) or "none"
        raise InputError(Problem(f"{metric} is not known of every answer; known: {listing}", "--metric"))
    return metric


def _groupings(kind: Kind, models: list[str]) -> list[tuple[str, ...]]:
    return list(combinations(models, 2)) if kind == "pairwise" else [tuple(models)]


def _unit(row: Row, models: tuple[str, ...], metric: str | None) -> Unit:
    groups: dict[str, list[str]] = {}
    for model in models:
        groups.setdefault(row.answers[model], []).append(model)
    scores = [row.scores[model][metric] for model in models] if metric is not None else []
    return Unit(row, models, list(groups.values()), max(scores) - min(scores) if scores else None)


def _strata(units: list[Unit], kind: Kind) -> dict[str, list[Unit]]:
    """Units with the same answers, with scores alike, and with scores apart: by more than half of what the farthest
    are; for each two models of pairwise anew."""
    farthest = max((unit.spread for unit in units if unit.spread is not None), default=0.0)
    several = len({unit.models for unit in units}) > 1
    found: dict[str, list[Unit]] = {}
    for unit in units:
        if len(unit.models) == 1:
            name = "all rows"
        elif len(unit.groups) == 1:
            name = "same answer"
        elif unit.spread is None:
            name = "answers differ"
        else:
            name = "scores apart" if unit.spread > farthest / 2 else "scores alike"
        if several and kind == "pairwise":
            name = f"{' and '.join(unit.models)}: {name}"
        found.setdefault(name, []).append(unit)
    return dict(sorted(found.items()))


def _placed(
    chosen: list[tuple[Unit, int]], kind: Kind, rng: np.random.Generator
) -> list[tuple[Unit, int, list[list[str]]]]:
    """What is shown at once, with whose answer stands in which place.

    Every answer of a Likert row is shown alone. Else each model stands in each place as often as the others, but for a
    remainder: a taste for the first place then favours none.
    """
    if kind == "likert":
        return [(unit, stratum, [group]) for unit, stratum in chosen for group in unit.groups]
    alike: dict[tuple[tuple[str, ...], int], list[tuple[Unit, int]]] = {}
    for unit, stratum in chosen:
        alike.setdefault((unit.models, len(unit.groups)), []).append((unit, stratum))
    found = []
    for (_, answers), members in alike.items():
        orders: list[list[int]] = []
        while len(orders) < len(members):
            one = rng.permutation(answers)
            orders += [np.roll(one, shift).tolist() for shift in range(answers)]
        mixed = rng.permutation(len(members)).tolist()
        for (unit, stratum), place in zip(members, mixed, strict=True):
            found.append((unit, stratum, [unit.groups[index] for index in orders[place]]))
    return found


def _name(kind: Kind, items: Sequence[Item]) -> str:
    """Of a set: the same for the same items."""
    text = "\n".join(item.model_dump_json() for item in items)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
