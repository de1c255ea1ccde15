"""metrics.jsonl, read while a run writes it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

Record = Mapping[str, Any]
"""A line: `step`, `time` in seconds since the epoch, and the figures."""


def figures_of(record: Record) -> dict[str, float]:
    """A step's figures by name."""
    return {name: float(value) for name, value in record.items() if name not in ("step", "time")}


class Records:
    """Lines from where they were read to last. The file is the queue: what cannot be sent waits there."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset, self._next, self._inode = 0, 0, 0

    def peek(self, most: int) -> list[Record]:
        """The next lines, which `advance` then passes over; a line that is still being written is not among them.

        A run that resumes replaces the file: it is read from its start again, steps that were read before included.
        """
        try:
            with self._file.open("rb") as lines:
                return self._read(lines, most)
        except FileNotFoundError:
            return []

    def advance(self) -> None:
        """Passes over what `peek` has given."""
        self._offset = self._next

    def _read(self, lines: BinaryIO, most: int) -> list[Record]:
        state = os.fstat(lines.fileno())
        if state.st_ino != self._inode or state.st_size < self._offset:
            self._offset, self._inode = 0, state.st_ino
        lines.seek(self._offset)
        self._next, found = self._offset, list[Record]()
        while len(found) < most and (line := lines.readline()).endswith(b"\n"):
            self._next += len(line)
            try:
                found.append(json.loads(line))
            except ValueError:  # cut off by a kill
                continue
        return found


def steps_after(file: Path, step: int) -> int:
    """How many lines of a metrics.jsonl are of later steps."""
    return sum(record["step"] > step for record in Records(file).peek(10**9))
