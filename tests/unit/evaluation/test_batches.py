"""Batches that shrink when memory runs out."""

from collections.abc import Callable

import pytest
import torch

from tunesmith.evaluation.batches import in_batches
from tunesmith.training.failures import is_out_of_memory


def worker(capacity: int, seen: list[list[int]]) -> Callable[[list[int]], None]:
    def work(batch: list[int]) -> None:
        if len(batch) > capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        seen.append(batch)

    return work


@pytest.mark.parametrize(
    ("items", "size", "capacity", "batches", "worked"),
    [
        (5, 2, 9, [[0, 1], [2, 3], [4]], 2),
        (5, 8, 9, [[0, 1, 2, 3, 4]], 8),
        (5, 4, 3, [[0, 1], [2, 3], [4]], 2),
        (3, 32, 2, [[0], [1], [2]], 1),
        (3, 7, 1, [[0], [1], [2]], 1),
        (0, 4, 1, [], 4),
    ],
)
def test_every_item_is_worked_on_once_and_in_order(
    items: int, size: int, capacity: int, batches: list[list[int]], worked: int
) -> None:
    seen: list[list[int]] = []
    assert in_batches(range(items), size, worker(capacity, seen)) == worked
    assert seen == batches


def test_a_single_item_that_is_too_much_ends_it() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(range(4), 4, worker(0, []))


def test_another_failure_is_not_tried_again() -> None:
    calls = []

    def work(batch: list[int]) -> None:
        calls.append(batch)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(range(4), 4, work)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_is_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
