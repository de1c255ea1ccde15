"""The answers of several models to the same prompts, read from the folders of evaluated runs."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.api.load import InputError, Problem
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.report import ROWS_FILE

_NOT_OF_ANSWERS = {"finished", "answerTokens", "negativeLogLikelihood", "tokens", "loss", "perplexity", "divergence"}
"""Figures of a row that say nothing of how good its answer is."""


@dataclass(frozen=True)
class Row:
    """A prompt with each model's answer."""

    number: int
    """In rows.jsonl, counted from 1."""
    prompt: str
    reference: str | None
    answers: dict[str, str]
    """By the model's name."""
    scores: dict[str, dict[str, float]]
    """Metrics of each model's answer."""


@dataclass(frozen=True)
class Answered:
    """What models answered."""

    models: dict[str, str]
    """The folder that each was read from, by its name."""
    rows: list[Row]
    left_out: int
    """Rows that a model could not answer."""


def read_answers(folders: Sequence[Path], with_base: bool) -> Answered:
    """Reads the answers of runs: each one's tuned model, and the base of the first.

    Args:
        folders: of the runs; a model has the name of its folder.
        with_base: whether the first run's base takes part.

    Raises:
        InputError: a run has no answers, or the runs were not evaluated on the same rows.
    """
    names = _names(folders)
    sources = [(name, folder, "tuned") for name, folder in zip(names, folders, strict=True)]
    if with_base:
        sources.append(("base", folders[0], "base"))
    tables = {folder: _read(folder) for folder in folders}
    if len({len(table) for table in tables.values()}) > 1:
        listing = ", ".join(f"{folder} {len(table):,}" for folder, table in tables.items())
        raise InputError(f"the runs were evaluated on different numbers of rows: {listing}")
    rows, left_out = [], 0
    for number, lines in enumerate(zip(*tables.values(), strict=True), start=1):
        by_folder = dict(zip(tables, lines, strict=True))
        _refuse_different(number, by_folder)
        parts = {name: _part(by_folder[folder], model, folder, number) for name, folder, model in sources}
        if any(part["answer"] is None for part in parts.values()):
            left_out += 1
            continue
        first = lines[0]
        reference = first.get("reference")
        rows.append(
            Row(
                number=number,
                prompt=_whole(first["prompt"]),
                reference=None if reference is None else _whole(reference),
                answers={name: _whole(part["answer"]) for name, part in parts.items()},
                scores={name: dict(_scores(part)) for name, part in parts.items()},
            )
        )
    if not rows:
        raise InputError(Problem("no row was answered by all models", file=str(folders[0])))
    return Answered({name: str(folder) for name, folder, _ in sources}, rows, left_out)


def has_base(folder: Path) -> bool:
    """Whether a run was evaluated beside its base.

    Raises:
        InputError: it was not evaluated.
    """
    return "base" in _read(folder)[0]


def metrics_of(answered: Answered) -> list[str]:
    """The metrics that say of every model how good its answers are."""
    first, *others = (scores for row in answered.rows for scores in row.scores.values())
    return [name for name in first if all(name in other for other in others)]


def _names(folders: Sequence[Path]) -> list[str]:
    names = [folder.absolute().name for folder in folders]
    for name in names:
        if names.count(name) > 1 or name == "base":
            raise InputError(f"{name} is the name of two models; name the folders of runs differently")
    return names


def _read(folder: Path) -> list[dict[str, Any]]:
    path = RunFolder(folder).evaluation / ROWS_FILE
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    except OSError:
        raise InputError(Problem("is missing; evaluate the run first", file=str(path))) from None
    except ValueError:
        raise InputError(Problem("is damaged; evaluate the run again", file=str(path))) from None
    if not lines or "prompt" not in lines[0] or "answer" not in lines[0].get("tuned", {}):
        message = "holds no answers: the run's evaluation compares none; add a metric that does, such as exactMatch"
        raise InputError(Problem(message, file=str(path)))
    return lines


def _refuse_different(number: int, lines: dict[Path, dict[str, Any]]) -> None:
    """The same row may have another prompt, where a run had another template; its reference then tells."""
    (folder, first), *others = lines.items()
    for other, line in others:
        same = first["prompt"] == line.get("prompt") or first.get("reference") == line.get("reference") is not None
        if not same:
            raise InputError(f"{folder} and {other} were evaluated on different rows: row {number} is not the same")


def _part(line: dict[str, Any], model: str, folder: Path, number: int) -> dict[str, Any]:
    part = line.get(model)
    if not isinstance(part, dict) or "answer" not in part:
        message = f"row {number} holds no answer of the {'base' if model == 'base' else 'tuned model'}"
        raise InputError(Problem(message, file=str(RunFolder(folder).evaluation / ROWS_FILE)))
    return part


def _scores(part: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in part.items():
        if name not in _NOT_OF_ANSWERS and isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value)


def _whole(text: str) -> str:
    """A text without halves of characters, which no file takes."""
    return text.encode(errors="replace").decode()
