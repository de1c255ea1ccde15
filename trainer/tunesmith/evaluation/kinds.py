"""What went wrong with an answer, as far as it can be seen without a model."""

import re
import unicodedata
from typing import Literal, get_args

from tunesmith.evaluation.formats import Format

Kind = Literal["unanswered", "empty", "repeats", "refuses", "cut off", "wrong format", "wrong", "right", "not judged"]
"""In the order in which they are looked for, but for right, which comes first: a cut off answer has no right format,
and a loop is cut off. Not judged is what has no reference and shows none of the others."""
KINDS: tuple[Kind, ...] = get_args(Kind)

_REPEATS = 3
_LONGEST_PIECE = 200
_SHORTEST_LOOP, _SHORTEST_CUT_LOOP = 24, 8
"""Characters of a loop, in an answer that has an end, and in one that was cut off: ha ha ha is none."""

_SORRY = r"(?:(?:i'm|i am|we're|we are) (?:very |so |really )?(?:sorry|afraid)|sorry|apologies|unfortunately)"
_UNABLE = r"(?:can't|can ?not|won't|will not|am unable to|are unable to|am not able to|are not able to)"
_HELP = (
    "(?:answer|assist|comply|create|discuss|do|engage|fulfill?|generate|give|help|offer|provide|share|support|write)"
)
_REFUSALS = (
    rf"(?:i|we) {_UNABLE} (?:\w+ )?{_HELP}\b",
    r"(?:i'm|i am|we're|we are) (?:unable|not able) to\b",
    r"(?:i|we) (?:must|have to) (?:decline|refuse)\b",
    r"as an? (?:ai|language model|large language model|assistant)\b",
    r"(?:i|we) (?:don't|do not) know\b",
    r"(?:i|we) (?:don't|do not) have (?:access|enough|any information|the ability)\b",
)
_REFUSAL = re.compile(rf"(?:{_SORRY}\W{{1,3}}(?:but\W{{1,2}})?)?(?:{'|'.join(_REFUSALS)})")
_OPENING = " '\"*_>#-\u201c"
_START = 300
"""Characters of an answer that a refusal has begun in."""


def kind_of(
    answer: str | None, finished: bool, right: bool | None, reference: str | None, expected: Format | None
) -> Kind:
    """The first kind that fits.

    Args:
        answer: None where the prompt left no room for one.
        finished: whether it has an end, rather than having run into the limit.
        right: whether it is perfect; None where nothing says so.
        reference: the right answer, where there is one; where it refuses, or is a loop, an answer may too.
        expected: what all right answers look like, where there is such a thing.
    """
    wanted = reference or ""
    if right:
        return "right"
    if answer is None:
        return "unanswered"
    if is_empty(answer):
        return "empty"
    if repeats(answer, finished) and not repeats(wanted):
        return "repeats"
    if refuses(answer) and not refuses(wanted):
        return "refuses"
    if not finished:
        return "cut off"
    if expected is not None and not expected.fits(answer):
        return "wrong format"
    return "not judged" if right is None else "wrong"


def is_empty(answer: str) -> bool:
    """Whether nothing in an answer can be seen: only white space, control and zero-width characters."""
    return all(unicodedata.category(char)[0] in "ZC" for char in answer)


def repeats(answer: str, finished: bool = True) -> bool:
    """Whether an answer ends in a loop: the same piece of at most 200 characters at least three times in a row.

    Holtzman et al. (2020, arXiv:1904.09751) count three times at the end too, but tokens; characters find loops in
    scripts without spaces, and within what a tokenizer has as one token. So that laughter and round numbers are none, a
    loop has at least 24 characters; 8 where the answer was cut off in it.
    """
    text = answer.strip()
    shortest = _SHORTEST_LOOP if finished else _SHORTEST_CUT_LOOP
    for piece in range(1, min(_LONGEST_PIECE, len(text) // _REPEATS) + 1):
        start = len(text) - piece
        while start > 0 and text[start - 1] == text[start - 1 + piece]:
            start -= 1
        if len(text) - start >= max(_REPEATS * piece, shortest):
            return True
    return False


def refuses(answer: str) -> bool:
    """Whether an answer starts as refusals in English do: it cannot or will not help, says what an AI it is, or does
    not know. Anything of the kind further on in it is no refusal."""
    start = " ".join(answer[:_START].lower().replace("\u2019", "'").split())
    return _REFUSAL.match(start.lstrip(_OPENING)) is not None
