"""Which of the training rows are set aside to validate on."""

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tunesmith.api.load import InputError, Problem
from tunesmith.data.rows import Row

_PLACE = "spec.dataset.validation"


GroupBy = str | Callable[[Row], object] | None
"""A column, or what else rows have in common that stay on one side of the split."""


@overload
def held_out(rows: Iterable[object], fraction: float, group_by: None, seed: int) -> NDArray[np.bool_]: ...
@overload
def held_out(rows: Iterable[Row], fraction: float, group_by: GroupBy, seed: int) -> NDArray[np.bool_]: ...
def held_out(rows: Iterable[Any], fraction: float, group_by: GroupBy, seed: int) -> NDArray[np.bool_]:
    """Draws a share of the rows at random; reads them once, and keeps a number for each.

    Args:
        rows: all of them; without groups, as many of anything.
        fraction: the share; with groups it holds as nearly as they allow.
        group_by: a column or a function; rows with the same value stay together.
        seed: of the drawing.

    Returns:
        True for a row that is set aside; shape [rows].

    Raises:
        InputError: one of the parts would be empty, or a row lacks the column.
    """
    if group_by is None:
        total = sum(1 for _ in rows)
        groups, sizes = np.arange(total), np.ones(total, np.int64)
    else:
        keys = np.fromiter((_group(row, group_by) for row in rows), np.uint64)
        _, groups, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        total = len(keys)
    wanted = round(total * fraction)
    chosen = _choose(sizes, wanted, seed)
    mask: NDArray[np.bool_] = chosen[groups]
    count = int(mask.sum())
    if not 0 < count < total:
        empty = "validation" if count == 0 else "training"
        of = f" in {len(sizes)} groups" if group_by is not None else ""
        message = f"{fraction} of {total} rows{of} leaves no {empty} row; choose another fraction"
        raise InputError(Problem(message, f"{_PLACE}.fraction"))
    return mask


def _choose(sizes: NDArray[np.int64], wanted: int, seed: int) -> NDArray[np.bool_]:
    """Groups at random, each that still fits into `wanted` rows; one more where that comes nearer. Shape [groups]."""
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(sizes), np.bool_)
    if len(sizes) and sizes.max() == 1:
        chosen[random.choice(len(sizes), size=wanted, replace=False)] = True
        return chosen
    left = wanted
    for group in random.permutation(len(sizes)).tolist():
        if sizes[group] <= left:
            chosen[group] = True
            left -= int(sizes[group])
    others = np.flatnonzero(~chosen)
    if len(others):
        smallest = others[sizes[others].argmin()]
        chosen[smallest] = sizes[smallest] - left < left
    return chosen


def _group(row: Row, group_by: str | Callable[[Row], object]) -> int:
    if isinstance(group_by, str) and group_by not in row:
        listing = ", ".join(sorted(row))
        message = f"there is no column {group_by!r} to group by; the data has: {listing}"
        raise InputError(Problem(message, f"{_PLACE}.groupBy"))
    shared = row[group_by] if isinstance(group_by, str) else group_by(row)
    value = json.dumps(shared, sort_keys=True, default=str)
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")
