"""What all right answers of a test set look like, where there is such a thing: found in the references alone."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.evaluation.statistics import FEWEST_ROWS

_MOST_CLASSES = 20
_ROWS_OF_A_CLASS = 5
"""A test set with fewer rows for each different answer has answers that merely happen to be alike."""
_LONGEST_CLASS = 64
"""Characters."""

_NUMBER = re.compile(r"[-+\u2212]?\s?[$€£¥]?\s?\d(?:[\d,.' \u00a0]*\d)?(?:[eE][-+]?\d+)?(?:/\d+)?\s?%?")
_MARKED = re.compile(r"####\s*[-+\u2212]?[$€£¥]?\d[\d,.]*\s*$")


@dataclass(frozen=True)
class Format:
    """What an answer must look like to be right at all."""

    name: str
    """In words, for people."""
    fits: Callable[[str], bool]


def format_of(references: Iterable[str]) -> Format | None:
    """The narrowest of a few formats that all references have: one of a few classes, a number, a line `#### NUMBER` at
    the end (GSM8K), JSON, a single line. None where they have none, or are too few to tell; empty ones say nothing.
    """
    texts = [text.strip() for text in references if text.strip()]
    if len(texts) < FEWEST_ROWS:
        return None
    candidates = (_classes(texts), _NUMBERS, _MARKS, _json(texts), _LINES)
    return next((f for f in candidates if f is not None and all(map(f.fits, texts))), None)


def _classes(texts: Sequence[str]) -> Format | None:
    names = sorted(set(texts))
    few = len(names) <= min(_MOST_CLASSES, len(texts) // _ROWS_OF_A_CLASS)
    if not few or any(len(name) > _LONGEST_CLASS or "\n" in name for name in names):
        return None
    return Format(f"one of {', '.join(names)}", lambda text: text.strip() in names)


def _json(texts: Sequence[str]) -> Format | None:
    values = [_parsed(text) for text in texts]
    if all(isinstance(value, dict) for value in values):
        keys = set.intersection(*({*value} for value in values))
        listing = f" with {', '.join(sorted(keys))}" if keys else ""
        return Format(f"a JSON object{listing}", lambda text: isinstance(v := _parsed(text), dict) and keys <= v.keys())
    return Format("a JSON array", lambda text: isinstance(_parsed(text), list))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_NUMBERS = Format("a number", lambda text: _NUMBER.fullmatch(text.strip()) is not None)
_MARKS = Format("a last line of #### and a number", lambda text: _MARKED.search(text.strip()) is not None)
_LINES = Format("a single line", lambda text: "\n" not in text.strip())
