"""Which rows are computed in which step, by which worker, in which micro-batch.

The order is fixed by seed and epoch before it is cut, and a step always holds the same rows; so neither the number of
workers nor the micro-batch changes the result, and the position in the data is a count of steps.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.api.training import TrainingSpec
from tunesmith.data.mixture import epoch_order

MicroBatch = list[int]
"""Indices of rows that one worker computes at once; may be empty."""


@dataclass(frozen=True)
class EpochPlan:
    """The steps of a run over one set of rows, or over several that are mixed by weight."""

    sets: tuple[int, ...]
    """Rows of each set."""
    weights: tuple[float, ...]
    """Weight of each set."""
    batch_size: int
    seed: int
    total_steps: int

    @classmethod
    def of(cls, training: TrainingSpec, *sets: int, weights: tuple[float, ...] = (1.0,)) -> "EpochPlan":
        """The plan that a spec asks for."""
        per_epoch = math.ceil(sum(sets) / training.batch_size)
        epochs = training.epochs if training.epochs is not None else 1.0
        total = training.max_steps or max(1, math.ceil(epochs * per_epoch))
        return cls(sets, weights, training.batch_size, training.seed, total)

    @property
    def steps_per_epoch(self) -> int:
        """The last step of an epoch may hold fewer rows."""
        return math.ceil(sum(self.sets) / self.batch_size)

    def step(self, index: int) -> NDArray[np.int64]:
        """The rows of one optimizer step, counted from 0 over the whole run."""
        epoch, position = divmod(index, self.steps_per_epoch)
        order = epoch_order(self.sets, self.weights, self.seed, epoch)
        return order[position * self.batch_size : (position + 1) * self.batch_size]


def cut_packed(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], workers: int, capacity: int
) -> list[list[MicroBatch]]:
    """Cuts a step's rows into micro-batches of at most `capacity` tokens, evenly loaded.

    Longest first, each into the emptiest micro-batch (Graham 1969), with as few micro-batches as fit.

    Args:
        rows: indices of the step's rows.
        lengths: tokens of every row of the data set.
        workers: number of workers.
        capacity: tokens that fit a micro-batch; no row is longer.

    Returns:
        For each worker as many micro-batches as for any other; some may be empty.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    count = max(1, math.ceil(int(lengths[rows].sum()) / (capacity * workers)))
    while True:
        bins: list[MicroBatch] = [[] for _ in range(count * workers)]
        load = np.zeros(len(bins), np.int64)
        for row in order.tolist():
            target = int(load.argmin())
            bins[target].append(row)
            load[target] += lengths[row]
        if load.max() <= capacity:
            return [bins[worker::workers] for worker in range(workers)]
        count += 1


def cut_padded(rows: NDArray[np.int64], lengths: NDArray[np.int64], workers: int, size: int) -> list[list[MicroBatch]]:
    """Cuts a step's rows into micro-batches of at most `size` rows of similar length, so that little is padded.

    Returns:
        For each worker as many micro-batches as for any other; some may be empty.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    count = max(1, math.ceil(len(order) / (size * workers)))
    parts = [part.tolist() for part in np.array_split(order, count * workers)]
    return [parts[worker::workers] for worker in range(workers)]
