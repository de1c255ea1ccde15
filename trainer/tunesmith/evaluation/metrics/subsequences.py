"""Longest common subsequences, in the time that long rows need: what rouge-score counts cell by cell is counted here a
row of its table at a time."""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_CELLS = 1_000_000
"""Cells of the tables' diagonals at once; bounds the memory to some 100 MB."""


class CommonTable:
    """The lengths of the longest common subsequences of all beginnings of two sequences (Hyyrö 2004, "Bit-parallel LCS-
    length computation revisited"): bit j of a row says that the length grows there, so a row is one number.

    Args:
        rows: one sequence.
        columns: the other.
    """

    def __init__(self, rows: Sequence[Hashable], columns: Sequence[Hashable]) -> None:
        self.places: dict[Hashable, int] = {}
        for place, item in enumerate(columns):
            self.places[item] = self.places.get(item, 0) | 1 << place
        self._whole = (1 << len(columns)) - 1
        flat = self._whole
        self._flat = [flat]
        for item in rows:
            hit = flat & self.places.get(item, 0)
            flat = ((flat + hit) | (flat - hit)) & self._whole
            self._flat.append(flat)

    def length(self, row: int, column: int) -> int:
        """Of the first `row` and the first `column` items."""
        return column - (self._flat[row] & ((1 << column) - 1)).bit_count()

    @property
    def whole(self) -> int:
        """Of both sequences."""
        return (self._flat[-1] ^ self._whole).bit_count()


def common_length(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence."""
    return CommonTable(one, other).whole


def common_places(rows: Sequence[Hashable], columns: Sequence[Hashable]) -> list[int]:
    """The places in `rows` of one longest common subsequence: of several, the one that rouge-score finds."""
    table, row, column = CommonTable(rows, columns), len(rows), len(columns)
    places = []
    while row and column:
        if rows[row - 1] == columns[column - 1]:
            row, column = row - 1, column - 1
            places.append(row)
        elif table.length(row, column - 1) > table.length(row - 1, column):
            column -= 1
        else:
            row -= 1
    return places


def weighted_lengths(pairs: Sequence[tuple[Sequence[str], Sequence[str]]], weight: float) -> NDArray[np.float64]:
    """The weighted longest common subsequence of each pair (Lin 2004, section 3.3): a run of k items counts k^weight.

    Cells of the table's diagonals do not depend on each other, nor do pairs: they are computed at once.

    Args:
        pairs: of sequences.
        weight: above 1, so that runs count more than the same items apart.

    Returns:
        [pairs].
    """
    found = np.zeros(len(pairs))
    for numbers in _batches(pairs):
        numbered: dict[str, int] = {}
        rows, columns = (
            _padded([[numbered.setdefault(word, len(numbered)) for word in pairs[n][side]] for n in numbers], -1 - side)
            for side in (0, 1)
        )
        ends = np.array([[len(pairs[n][0]), len(pairs[n][1])] for n in numbers])
        found[numbers] = _weighted(rows, columns, ends, weight)
    return found


def _weighted(
    rows: NDArray[np.int64], columns: NDArray[np.int64], ends: NDArray[np.int64], weight: float
) -> NDArray[np.float64]:
    count, height = rows.shape
    width = columns.shape[1]
    gains = np.diff(np.arange(min(height, width) + 2, dtype=np.float64) ** weight)
    # by row, of the last diagonal and of the one before; the first row and the first column stay 0
    scores, before, new = np.zeros((3, count, height + 1))
    runs, runs_before, new_runs = np.zeros((3, count, height + 1), np.int32)
    lengths = ends.sum(axis=1)
    found = np.zeros(count)
    for diagonal in range(2, height + width + 1):
        low, high = max(1, diagonal - width), min(height, diagonal - 1)
        here, above = slice(low, high + 1), slice(low - 1, high)
        facing = columns[:, diagonal - high - 1 : diagonal - low][:, ::-1]
        case, place = np.nonzero(rows[:, above] == facing)
        np.maximum(scores[:, above], scores[:, here], out=new[:, here])
        run = runs_before[case, place + low - 1]
        new[case, place + low] = before[case, place + low - 1] + gains[run]
        new_runs[:, here] = 0
        new_runs[case, place + low] = run + 1
        before, scores, new = scores, new, before
        runs_before, runs, new_runs = runs, new_runs, runs_before
        ended = np.flatnonzero(lengths == diagonal)
        found[ended] = scores[ended, ends[ended, 0]]
    return found


def _batches(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Iterator[list[int]]:
    """Pairs of like length; without those of which one is empty."""
    waiting = [number for number, (one, other) in enumerate(pairs) if one and other]
    waiting.sort(key=lambda number: (len(pairs[number][0]), len(pairs[number][1])))
    while waiting:
        size = max(1, min(256, _CELLS // (len(pairs[waiting[-1]][0]) + 1)))
        yield waiting[-size:]
        del waiting[-size:]


def _padded(rows: Sequence[Sequence[int]], filling: int) -> NDArray[np.int64]:
    padded = np.full((len(rows), max(map(len, rows))), filling)
    for row, numbers in zip(padded, rows, strict=True):
        row[: len(numbers)] = numbers
    return padded
