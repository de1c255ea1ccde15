"""Reads the rows of a data source one by one: JSONL, Parquet, text, or a data set of the Hub."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunesmith.api.dataset import DataSource
from tunesmith.api.load import InputError, Problem
from tunesmith.api.source import Location
from tunesmith.sources import Resolver

Row = dict[str, Any]

TEXT_PIECE = 8192
"""Characters after which a text file is cut into another row, at the next end of a line."""
LONGEST_LINE = 1_000_000
"""Characters after which a line of a text file is cut where it stands."""
READ_AT_ONCE = 1000
"""Rows of a Parquet file or of a data set of the Hub that are in memory at a time."""

_FORMATS = {".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "text"}


def iterate_rows(source: DataSource, resolver: Resolver, place: str) -> Iterator[Row]:
    """The rows of a data source, in the order of its files; only a few are in memory at a time.

    Args:
        source: what to read.
        resolver: finds it.
        place: the field of the spec, for messages.

    Raises:
        InputError: it is not there, is empty, or a line is broken; names file and line.
    """
    assert source.source is not None
    location = Location.parse(source.source)
    empty = True
    if location.scheme == "hf":
        rows = _read_hub(source, place)
    else:
        files = _files(source, resolver.path(location, place), place)
        rows = (row for file, kind in files for row in _read(file, kind, place))
    for row in rows:
        empty = False
        yield row
    if empty:
        raise _empty(source, place)


def count_rows(source: DataSource, resolver: Resolver, place: str) -> int:
    """How many rows `iterate_rows` has; much faster, as a row is not looked into.

    Raises:
        InputError: it is not there, or is empty.
    """
    assert source.source is not None
    location = Location.parse(source.source)
    if location.scheme == "hf":
        count = len(_hub_set(source, place))
    else:
        count = sum(_count(file, kind, place) for file, kind in _files(source, resolver.path(location, place), place))
    if not count:
        raise _empty(source, place)
    return count


def _empty(source: DataSource, place: str) -> InputError:
    return InputError(Problem(f"{source.source} is empty: there is not a single row in it", place))


def read_rows(source: DataSource, resolver: Resolver, place: str) -> list[Row]:
    """All rows of a data source; see `iterate_rows`."""
    return list(iterate_rows(source, resolver, place))


def source_files(source: DataSource, resolver: Resolver, place: str) -> list[Path]:
    """The files that the rows of a data source are read from.

    Raises:
        InputError: there are none.
    """
    assert source.source is not None
    location = Location.parse(source.source)
    if location.scheme == "hf":
        return [Path(file["filename"]) for file in _hub_set(source, place).cache_files]
    return [file for file, _ in _files(source, resolver.path(location, place), place)]


def _files(source: DataSource, path: Path, place: str) -> Iterator[tuple[Path, str]]:
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix in _FORMATS and f.is_file())
        if not files:
            raise InputError(Problem(f"{path} holds no .jsonl, .parquet or .txt file", place))
    for file in files:
        kind = source.format or _FORMATS.get(file.suffix)
        if kind is None:
            raise InputError(Problem(f"{file.name}: unknown extension; set format to jsonl, parquet or text", place))
        yield file, kind


def _read(file: Path, kind: str, place: str) -> Iterator[Row]:
    with _blaming(file, place):
        match kind:
            case "jsonl":
                yield from (_parse(line, number, file, place) for number, line in _lines(file))
            case "text":
                yield from ({"text": piece} for piece in _pieces(file))
            case _:
                yield from _read_parquet(file)


def _count(file: Path, kind: str, place: str) -> int:
    import pyarrow.parquet

    with _blaming(file, place):
        match kind:
            case "jsonl":
                return sum(1 for _ in _lines(file))
            case "text":
                return sum(1 for _ in _pieces(file))
            case _:
                return int(pyarrow.parquet.read_metadata(file).num_rows)


@contextmanager
def _blaming(file: Path, place: str) -> Iterator[None]:
    """What is wrong with a file, as an error that names it."""
    import pyarrow

    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(Problem(f"is not UTF-8 text (byte {error.start})", place, file=str(file))) from None
    except pyarrow.ArrowInvalid as error:
        raise InputError(Problem(f"is not a Parquet file: {error}", place, file=str(file))) from None
    except OSError as error:
        raise InputError(Problem(f"cannot be read: {error.strerror or error}", place, file=str(file))) from None


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that hold anything, each with its number."""
    with file.open(encoding="utf-8-sig") as lines:
        yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _parse(line: str, number: int, file: Path, place: str) -> Row:
    """The row of a line of JSONL."""
    try:
        row = json.loads(line.rstrip("\n"))
    except json.JSONDecodeError as error:
        if number == 1 and line.lstrip().startswith(("[", "{")) and line.rstrip().endswith(("[", "{", ",")):
            message = "is JSON over several lines; write each row as one object on a line of its own (JSON Lines)"
            raise InputError(Problem(message, place, number, str(file))) from None
        message = f"is broken JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        raise InputError(Problem(message, place, number, str(file))) from None
    if not isinstance(row, dict):
        raise InputError(
            Problem("should be an object with the row's columns, one on each line", place, number, str(file))
        )
    if "\\u" in line and _has_half_a_character(row):
        message = "holds half a character: an escape such as \\ud83d without the one that belongs to it"
        raise InputError(Problem(message, place, number, str(file)))
    return row


def _has_half_a_character(row: Row) -> bool:
    """Whether an escape made a surrogate without its other half, which no tokenizer takes."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _pieces(file: Path) -> Iterator[str]:
    """A text, cut at ends of lines."""
    with file.open(encoding="utf-8-sig") as text:
        while piece := text.read(TEXT_PIECE):
            if not piece.endswith("\n"):
                piece += text.readline(LONGEST_LINE)
            yield piece


def _read_parquet(file: Path) -> Iterator[Row]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as table:
        for batch in table.iter_batches(READ_AT_ONCE):
            yield from batch.to_pylist()


def _read_hub(source: DataSource, place: str) -> Iterator[Row]:
    """Its library maps the files into memory as they are read."""
    for batch in _hub_set(source, place).iter(READ_AT_ONCE):
        names = list(batch)
        yield from (dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True))


def _hub_set(source: DataSource, place: str) -> Any:
    import datasets

    assert source.source is not None
    location = Location.parse(source.source)
    try:
        return _load_hub(location.name, source.config, source.split or "train", location.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(Problem(f"{source.source} cannot be loaded from the Hub: {reason}", place)) from None


@lru_cache(maxsize=32)
def _load_hub(name: str, config: str | None, split: str, revision: str | None) -> Any:
    """Kept, so that a run that reads its rows several times reads the same revision, and asks the Hub once."""
    import datasets

    return datasets.load_dataset(name, config, split=split, revision=revision)
