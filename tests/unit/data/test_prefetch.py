"""What the next step needs is made ahead, in order, and no thread outlives the run."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tunesmith.data.prefetch import Ahead, read_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("in_thread", [True, False])
def test_things_come_as_they_are_asked_for(in_thread: bool) -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number * number

    with closing(Ahead(make, 6, in_thread)) as ahead:
        assert [ahead.take(number) for number in (2, 3, 4, 5)] == [4, 9, 16, 25]
    assert made == [2, 3, 4, 5], "each once, none beyond the end"
    assert not threads()


def test_the_next_thing_is_made_while_the_last_one_is_used() -> None:
    begun = threading.Event()
    with closing(Ahead(lambda number: begun.set() if number == 1 else None, 2, True)) as ahead:
        ahead.take(0)
        assert begun.wait(10)
        assert threads()
    assert not threads()


def test_an_error_is_raised_where_its_thing_is_asked_for() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise MemoryError
        return number

    with pytest.raises(MemoryError), closing(Ahead(make, 9, True)) as ahead:
        assert ahead.take(0) == 0
        assert ahead.take(1) == 1
        ahead.take(2)
    assert not threads()


def test_the_next_item_is_read_while_the_last_one_is_used() -> None:
    second, failing = threading.Event(), [1, 2, None]

    def items() -> Iterator[int]:
        for number, item in enumerate(failing, start=1):
            if number == 2:
                second.set()
            if item is None:
                raise MemoryError
            yield item

    ahead = read_ahead(items())
    assert next(ahead) == 1
    assert second.wait(10)
    assert next(ahead) == 2
    with pytest.raises(MemoryError):
        next(ahead)
    assert list(read_ahead(iter([]))) == []
    assert not threads()
