"""Makes what the next step needs while this one is computed."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Ahead(Generic[T]):
    """Things that are numbered and asked for in order; the next one is made in a thread while the last one is used.

    An error of the thread is raised where its thing is asked for. Whoever makes one closes it.
    """

    def __init__(self, make: Callable[[int], T], end: int, in_thread: bool) -> None:
        """
        Args:
            make: makes the thing of a number; a function of the number alone.
            end: no thing has this number or a higher one.
            in_thread: whether to make things ahead at all.
        """
        self._make, self._end, self._in_thread = make, end, in_thread
        self._next: tuple[int, Future[T]] | None = None
        self._thread = ThreadPoolExecutor(1, "ahead")  # starts when it gets something to do

    def take(self, number: int) -> T:
        """The thing of a number."""
        made, self._next = self._next, None
        thing = made[1].result() if made is not None and made[0] == number else self._make(number)
        if self._in_thread and number + 1 < self._end:
            self._next = number + 1, self._thread.submit(self._make, number + 1)
        return thing

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(cancel_futures=True)


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made in a thread while the last one is used.

    An error of the thread is raised where its item is asked for.
    """
    end = object()
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming: Future[T | object] = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield cast(T, item)
