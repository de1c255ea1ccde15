"""The order of an epoch's rows, drawn from one set or from several by weight.

Each set is a stream of its own: all of its rows in a random order, then all of them again in another one, without end.
An epoch takes as many rows from each stream as its weight says, and goes on in it where the epoch before stopped. Where
a stream stands is a multiple of the epoch, so that there is nothing to save.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def shares(sizes: tuple[int, ...], weights: tuple[float, ...]) -> tuple[int, ...]:
    """How many rows an epoch takes from each set: as many as all sets have, by weight, to less than one row (largest
    remainders), but at least one from each.

    Args:
        sizes: rows of each set.
        weights: of each set, in any unit.
    """
    total = sum(sizes)
    exact = total * np.asarray(weights) / sum(weights)
    counts = np.maximum(1, np.floor(exact).astype(np.int64))
    while counts.sum() > total:
        counts[counts.argmax()] -= 1
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return tuple(counts.tolist())


@lru_cache(maxsize=2)
def epoch_order(sizes: tuple[int, ...], weights: tuple[float, ...], seed: int, epoch: int) -> NDArray[np.int64]:
    """The rows of an epoch, in order; the rows of a set are numbered on from those of the set before it.

    Drawn once for all steps of the epoch, and so not to be written to. Shape [rows of all sets].
    """
    counts = shares(sizes, weights)
    set_of = np.repeat(np.arange(len(sizes), dtype=np.int8), counts)
    if len(sizes) > 1:
        np.random.default_rng([seed, epoch, len(sizes)]).shuffle(set_of)
    order = np.empty(len(set_of), np.int64)
    for index, count in enumerate(counts):
        order[set_of == index] = sum(sizes[:index]) + _drawn(sizes[index], seed, index, epoch * count, count)
    order.flags.writeable = False
    return order


def _drawn(rows: int, seed: int, index: int, start: int, count: int) -> NDArray[np.int64]:
    """`count` rows of a set's stream from `start` on."""
    first, last = start // rows, (start + count - 1) // rows
    passes = [np.random.default_rng([seed, number, index]).permutation(rows) for number in range(first, last + 1)]
    return np.concatenate(passes)[start - first * rows :][:count]
