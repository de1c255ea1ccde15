"""Work in batches that shrink by themselves when memory runs out."""

from collections.abc import Callable, Sequence

import torch

from tunesmith.training.failures import is_out_of_memory


def in_batches(items: Sequence[int], size: int, work: Callable[[list[int]], None]) -> int:
    """Does all work, at most `size` items at once; out of memory, half as many from there on.

    Args:
        items: what to work on, in this order; the most demanding should come first.
        size: items of a batch.
        work: is given a batch; called again with a part of it after it ran out of memory, so it stores nothing before
            it has succeeded.

    Returns:
        The size that worked.

    Raises:
        Exception: what `work` raises, out of memory included when a single item is too much.
    """
    position = 0
    while position < len(items):
        batch = list(items[position : position + size])
        if _fits(work, batch):
            position += len(batch)
        else:
            size = len(batch) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return size


def _fits(work: Callable[[list[int]], None], batch: list[int]) -> bool:
    """Does the work; its frames and their tensors are gone by the time this returns."""
    try:
        work(batch)
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
        return False
    return True
