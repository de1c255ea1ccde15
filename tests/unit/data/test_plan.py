"""The order of rows, and how a step is cut: every row once, within capacity, as many micro-batches for each worker."""

from itertools import chain

import numpy as np
import pytest
from numpy.typing import NDArray

from tunesmith.api.training import TrainingSpec
from tunesmith.data.plan import EpochPlan, MicroBatch, cut_packed, cut_padded

Rows = NDArray[np.int64]


def plan(rows: int, **training: object) -> EpochPlan:
    return EpochPlan.of(TrainingSpec.model_validate(training), rows)


def order(plan: EpochPlan, epoch: int) -> list[int]:
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    return list(chain.from_iterable(plan.step(step).tolist() for step in steps))


def test_every_epoch_holds_every_row_once_in_an_order_of_its_own() -> None:
    first, second = (order(plan(103, epochs=2, batchSize=10), epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(103))
    assert first != second
    assert first != list(range(103))


def test_the_order_is_fixed_by_the_seed_and_nothing_else() -> None:
    one, same, other = (plan(50, batchSize=8, seed=seed) for seed in (1, 1, 2))
    assert order(one, 0) == order(same, 0) != order(other, 0)
    assert order(plan(50, batchSize=5, seed=1), 0) == order(one, 0), "however many rows a step has"
    assert one.step(3).tolist() == plan(50, batchSize=8, seed=1, maxSteps=1000).step(3).tolist()


@pytest.mark.parametrize(
    ("rows", "training", "steps"),
    [
        (100, {"batchSize": 10}, 10),
        (101, {"batchSize": 10}, 11),
        (100, {"batchSize": 10, "epochs": 2.5}, 25),
        (100, {"batchSize": 10, "epochs": 0.01}, 1),
        (3, {"batchSize": 10, "epochs": 4}, 4),
        (100, {"batchSize": 10, "maxSteps": 7}, 7),
        (100, {"batchSize": 10, "maxSteps": 700}, 700),
    ],
)
def test_the_number_of_steps(rows: int, training: dict[str, float], steps: int) -> None:
    assert plan(rows, **training).total_steps == steps


def test_the_last_step_of_an_epoch_holds_what_is_left() -> None:
    assert [len(plan(23, batchSize=10, epochs=2).step(step)) for step in range(6)] == [10, 10, 3, 10, 10, 3]


def random_rows(seed: int) -> tuple[Rows, Rows, int, int]:
    """Some rows of a data set, the lengths of all, a capacity, and a number of workers."""
    random = np.random.default_rng(seed)
    capacity = int(random.integers(1, 200))
    lengths = np.minimum(random.geometric(random.uniform(0.01, 1), size=int(random.integers(1, 300))), capacity)
    rows = random.permutation(len(lengths))[: int(random.integers(1, len(lengths) + 1))]
    return rows, lengths.astype(np.int64), capacity, int(random.integers(1, 9))


def holds_every_row_once(parts: list[list[MicroBatch]], rows: Rows) -> bool:
    return sorted(chain.from_iterable(chain.from_iterable(parts))) == sorted(rows.tolist())


@pytest.mark.parametrize("seed", range(100))
def test_packed_micro_batches(seed: int) -> None:
    rows, lengths, capacity, workers = random_rows(seed)
    parts = cut_packed(rows, lengths, workers, capacity)
    loads = [int(lengths[micro_batch].sum()) for worker in parts for micro_batch in worker]
    assert holds_every_row_once(parts, rows)
    assert max(loads) <= capacity
    assert len(parts) == workers
    assert {len(worker) for worker in parts} == {len(parts[0])}, "one that has fewer leaves the others waiting"
    needed = -(-int(lengths[rows].sum()) // capacity)
    assert len(loads) <= 2 * needed + 2 * workers, "not many more than the least that could do"


@pytest.mark.parametrize("seed", range(100))
def test_padded_micro_batches(seed: int) -> None:
    rows, lengths, size, workers = random_rows(seed)
    parts = cut_padded(rows, lengths, workers, size)
    assert holds_every_row_once(parts, rows)
    assert max(len(micro_batch) for worker in parts for micro_batch in worker) <= size
    assert len(parts) == workers
    assert {len(worker) for worker in parts} == {len(parts[0])}
    assert len(parts[0]) == max(1, -(-len(rows) // (size * workers)))


def test_padded_rows_lie_beside_rows_of_their_length() -> None:
    lengths = np.array([1, 90, 2, 91, 3, 92, 4, 93])
    (parts,) = cut_padded(np.arange(8), lengths, 1, 4)
    assert [sorted(lengths[part].tolist()) for part in parts] == [[90, 91, 92, 93], [1, 2, 3, 4]]


def test_packed_workers_are_evenly_loaded() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 64)
    parts = cut_packed(np.arange(64), lengths, 4, 400)
    loads = [sum(int(lengths[micro_batch].sum()) for micro_batch in worker) for worker in parts]
    assert max(loads) < 1.1 * min(loads)


@pytest.mark.parametrize("cut", [cut_packed, cut_padded])
def test_a_worker_may_have_no_rows(cut: object) -> None:
    assert callable(cut)
    parts = cut(np.array([5]), np.full(6, 7), 3, 10)
    assert sorted(parts) == [[[]], [[]], [[5]]]
