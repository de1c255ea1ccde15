"""A set as CSV for a spreadsheet, and its ratings back."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tunesmith.api.load import InputError, Problem
from tunesmith.review.folder import Item, SetInfo
from tunesmith.review.kinds import LETTERS, parse

csv.field_size_limit(2**31 - 1)

_FORMULA = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")  # noqa: RUF001  # full width starts a formula too
_TRUNCATED = 32_767
"""Characters of a cell that spreadsheets keep."""


def write_csv(path: Path, info: SetInfo, items: Sequence[Item]) -> None:
    """Writes prompts and answers beside an empty column for ratings; UTF-8 with the mark that spreadsheets look for.

    A cell that a spreadsheet would compute gets an apostrophe in front, and a text that is longer than a cell an end
    that says so.

    Raises:
        InputError: it cannot be written.
    """
    places = max(len(item.answers) for item in items)
    reference = ["reference"] if any(item.reference is not None for item in items) else []
    header = ["set", "item", "prompt", *reference, *(f"answer {letter}" for letter in LETTERS[:places]), "rating"]
    try:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for item in items:
                texts = [item.prompt, *([item.reference or ""] if reference else []), *item.answers]
                cells = [_cell(text) for text in texts] + [""] * (places - len(item.answers))
                writer.writerow([info.id, item.item, *cells, ""])
    except OSError as error:
        raise InputError(Problem(f"cannot be written: {error.strerror}", file=str(path))) from None


def _cell(text: str) -> str:
    if _FORMULA.match(text):
        text = "'" + text
    if len(text) > _TRUNCATED:
        note = "… (cut: longer than a cell)"
        text = text[: _TRUNCATED - len(note)] + note
    return text


def read_csv(path: Path, info: SetInfo, items: Sequence[Item]) -> dict[int, str]:
    """The ratings of a CSV file, separated by commas, semicolons or tabs as spreadsheets like it; items without a
    rating are left out. Only the columns set, item and rating are read.

    Raises:
        InputError: with every mistake and its line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(Problem(f"cannot be read: {error.strerror}", file=str(path))) from None
    except UnicodeDecodeError as error:
        raise InputError(Problem(f"is not UTF-8 text (byte {error.start}): save it as UTF-8", file=str(path))) from None
    answers = {item.item: len(item.answers) for item in items}
    ratings: dict[int, str] = {}
    problems = []
    for line, cells in _records(text, path):
        try:
            item, value = _rating(cells, info, answers)
            if item in ratings:
                raise ValueError(f"item {item} has a rating already")
            if value is not None:
                ratings[item] = value
        except ValueError as error:
            problems.append(Problem(str(error), line=line, file=str(path)))
    if problems:
        raise InputError(*problems)
    return ratings


def _records(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The records with the line on which each begins."""
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    line = 1
    try:
        for cells in reader:
            if line == 1:
                names = [name.strip().lower() for name in cells]
                if missing := [name for name in ("set", "item", "rating") if name not in names]:
                    message = f"there is no column {missing[0]!r}; the file has: {', '.join(names) or 'nothing'}"
                    raise InputError(Problem(message, line=1, file=str(path)))
            elif any(cells):
                yield line, dict(zip(names, cells, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(Problem(f"is broken CSV: {error}", line=line, file=str(path))) from None
    if not names:
        raise InputError(Problem("is empty", file=str(path)))


def _rating(cells: dict[str, str], info: SetInfo, answers: dict[int, int]) -> tuple[int, str | None]:
    """An item and its rating, None where it has none.

    Raises:
        ValueError: says what is wrong.
    """
    if (given := cells.get("set", "").strip()) != info.id:
        raise ValueError(f"is of the set {given!r}, and not of this one, {info.id!r}")
    number = cells.get("item", "").strip()
    if not number.isdecimal() or int(number) not in answers:
        raise ValueError(f"there is no item {number!r}; items are 1 to {len(answers)}")
    item = int(number)
    value = cells.get("rating", "").strip()
    if not value:
        return item, None
    try:
        return item, parse(info.kind, value, answers[item])
    except ValueError as error:
        raise ValueError(f"item {item}: rating {error}") from None
