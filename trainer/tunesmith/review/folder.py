"""The folder of a review: what raters see, the key that says whose answers these are, and a file for each rater.

set.json        kind, number of items, a name that tells sets apart
items.jsonl     prompts and answers, without anything that names a model
key.json        whose answers; read by results alone
answers/NAME.jsonl   a line for each rating, in the order in which they were given
"""

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TypeVar

from pydantic import ValidationError

from tunesmith.api.base import Record
from tunesmith.api.load import InputError, Problem
from tunesmith.review.kinds import Kind

RATER_NAME = re.compile(r"[\w-][\w.-]{0,63}")
_Read = TypeVar("_Read", bound=Record)


class SetInfo(Record):
    """What set.json holds."""

    id: str
    """Tells sets apart; starts with a letter."""
    kind: Kind
    items: int


class Item(Record):
    """What a rater sees at once."""

    item: int
    """Counted from 1."""
    prompt: str
    reference: str | None = None
    """The right answer, where raters are to know it."""
    answers: list[str]
    """In the order of their places."""


class Stratum(Record):
    """Rows of which a share was drawn."""

    name: str
    units: int
    """How many there are: rows, or rows with two of the models."""
    drawn: int


class KeyedItem(Record):
    """Whose answers an item shows."""

    item: int
    row: int
    """In the runs' rows.jsonl, counted from 1."""
    stratum: int
    """Its place in the key's strata."""
    models: list[list[str]]
    """Of each place, the models that gave this very answer."""


class Key(Record):
    """What key.json holds."""

    models: dict[str, str]
    """The folder of each model's run."""
    seed: int
    rows: int
    """Rows that all models answered."""
    left_out: int
    """Rows that one could not answer."""
    same: int
    """Rows (or rows with two of the models) whose answers are the same text, and which nobody is asked about."""
    metric: str | None
    """What strata are told apart by."""
    strata: list[Stratum]
    items: list[KeyedItem]


class Rating(Record):
    """A line of a rater's file; the last one of an item counts."""

    item: int
    value: str | None
    """None takes the rating back."""
    at: str
    """When; ISO 8601, UTC."""


class ReviewFolder:
    """Reads and writes a review's files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers = root / "answers"
        self.results = root / "results.json"

    def info(self) -> SetInfo:
        """What kind of set it is.

        Raises:
            InputError: it is none.
        """
        path = self.root / "set.json"
        if not path.exists():
            message = "is not a review: it holds no set.json; make one with tunesmith review make"
            raise InputError(Problem(message, file=str(self.root)))
        return _read_json(path, SetInfo)

    def items(self) -> list[Item]:
        """What raters see, in the order in which they see it."""
        return _read_lines(self.root / "items.jsonl", Item)

    def key(self) -> Key:
        """Whose answers these are."""
        return _read_json(self.root / "key.json", Key)

    def ratings(self) -> dict[str, dict[int, str]]:
        """The ratings that count: value by item, by rater.

        Raises:
            InputError: a file is damaged.
        """
        return {file.stem: standing(whole_lines(file)) for file in sorted(self.answers.glob("*.jsonl"))}


def write_set(root: Path, info: SetInfo, items: Sequence[Item], key: Key) -> None:
    """Makes a review's folder, whole or not at all.

    Raises:
        InputError: something is there already, or it cannot be written.
    """
    if root.exists():
        raise InputError(Problem("exists already, perhaps with ratings; choose another --out", file=str(root)))
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=root.parent) as scratch:
            partial = Path(scratch) / "set"
            (partial / "answers").mkdir(parents=True)
            lines = (item.model_dump_json(exclude_none=True) + "\n" for item in items)
            with (partial / "items.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(lines)
            (partial / "key.json").write_text(key.model_dump_json(indent=1), encoding="utf-8")
            (partial / "set.json").write_text(info.model_dump_json(indent=1), encoding="utf-8")
            shutil.move(partial, root)
    except OSError as error:
        raise InputError(Problem(f"cannot be written: {error.strerror}", file=str(root))) from None


class RaterFile:
    """A rater's ratings, appended one by one; each is on the disk before `give` returns, so that a killed process
    loses none, and the file is held by one process at a time."""

    def __init__(self, path: Path, descriptor: int, given: dict[int, str]) -> None:
        self.path = path
        self._descriptor = descriptor
        self._given = given
        self._lock = Lock()

    def given(self) -> dict[int, str]:
        """The ratings that stand, by item."""
        with self._lock:
            return dict(self._given)

    def give(self, item: int, value: str | None) -> dict[int, str]:
        """Saves a rating, or takes it back; the ratings that stand then.

        Raises:
            OSError: it was not saved.
        """
        rating = Rating(item=item, value=value, at=datetime.now(UTC).isoformat(timespec="milliseconds"))
        line = (rating.model_dump_json() + "\n").encode()
        with self._lock:
            end = os.lseek(self._descriptor, 0, os.SEEK_END)
            try:
                if os.write(self._descriptor, line) != len(line):
                    raise OSError(28, "no space left", str(self.path))
                os.fsync(self._descriptor)
            except OSError:
                os.ftruncate(self._descriptor, end)
                raise
            _apply(self._given, rating)
            return dict(self._given)


@contextmanager
def open_rater(folder: ReviewFolder, rater: str) -> Iterator[RaterFile]:
    """Holds a rater's file, and goes on where it stopped: half a line, of a process that was killed while it wrote, was
    never said to be saved, and is cut off.

    Raises:
        InputError: the name is none for a file, another process holds the file, or it is damaged.
    """
    if not RATER_NAME.fullmatch(rater):
        raise InputError(Problem(f"{rater!r} should be letters, digits, '-', '_' and '.', at most 64", "--rater"))
    path = folder.answers / f"{rater}.jsonl"
    try:
        folder.answers.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise InputError(Problem(f"cannot be written: {error.strerror}", file=str(path))) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(Problem(f"{rater} is rating just now; stop that server first", "--rater")) from None
        _sync_folder(folder.answers)
        given = standing(whole_lines(path))
        os.ftruncate(descriptor, path.read_bytes().rfind(b"\n") + 1)
        yield RaterFile(path, descriptor, given)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def whole_lines(path: Path) -> list[Rating]:
    """The ratings of a file, without half a line at its end.

    Raises:
        InputError: another line is damaged.
    """
    whole = path.read_bytes().rpartition(b"\n")[0]
    return [_parse(line, Rating, path, number) for number, line in enumerate(whole.splitlines(), start=1)]


def standing(ratings: Sequence[Rating]) -> dict[int, str]:
    """The last rating of each item, those left out that were taken back."""
    given: dict[int, str] = {}
    for rating in ratings:
        _apply(given, rating)
    return given


def _apply(given: dict[int, str], rating: Rating) -> None:
    if rating.value is None:
        given.pop(rating.item, None)
    else:
        given[rating.item] = rating.value


def _read_json(path: Path, kind: type[_Read]) -> _Read:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(Problem(f"cannot be read: {error.strerror}", file=str(path))) from None
    except ValidationError:
        raise InputError(Problem("is damaged; make the review again", file=str(path))) from None


def _read_lines(path: Path, kind: type[_Read]) -> list[_Read]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(Problem(f"cannot be read: {error.strerror}", file=str(path))) from None
    return [_parse(line, kind, path, number) for number, line in enumerate(lines, start=1)]


def _parse(line: bytes, kind: type[_Read], path: Path, number: int) -> _Read:
    try:
        return kind.model_validate(json.loads(line))
    except ValueError:
        raise InputError(Problem("is damaged", line=number, file=str(path))) from None
