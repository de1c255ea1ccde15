"""The four ways to rate answers: what is asked, what may be answered, and what an answer is worth.

Raters, and what is stored of their ratings, know answers by the letter of their place (A, B, ...); the key alone knows
whose they are.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["likert", "pairwise", "ranking", "ab"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LETTERS = "ABCDEFGHI"
"""As many answers as a row may have: a digit key for each."""
_GRADES = ("A much", "A", "tie", "B", "B much")
VALUES = range(9)
"""What `codes` may give."""


@dataclass(frozen=True)
class Choice:
    """One of the ratings that a rater can give."""

    value: str
    """As it is stored, and written in a spreadsheet."""
    label: str
    """On its button."""
    keys: tuple[str, ...]


_LIKERT = ("very bad", "bad", "middling", "good", "very good")
CHOICES: dict[Kind, tuple[Choice, ...]] = {
    "likert": tuple(Choice(str(n), label, (str(n),)) for n, label in enumerate(_LIKERT, start=1)),
    "pairwise": (
        Choice("A much", "A is much better", ("1",)),
        Choice("A", "A is better", ("2", "a")),
        Choice("tie", "about the same", ("3", "t")),
        Choice("B", "B is better", ("4", "b")),
        Choice("B much", "B is much better", ("5",)),
    ),
    "ranking": (),  # the answers themselves, one after the other
    "ab": (Choice("A", "A", ("1", "a")), Choice("B", "B", ("2", "b"))),
}
QUESTIONS: dict[Kind, str] = {
    "likert": "How good is this answer?",
    "pairwise": "Which answer is better, and by how much?",
    "ranking": "Which answer is the best? Then the next best, down to the last.",
    "ab": "Which answer do you prefer?",
}


def parse(kind: Kind, text: str, answers: int) -> str:
    """A rating as it is stored, from one that a person may have typed.

    Args:
        kind: what was asked.
        text: without regard to case and white space; of a ranking, letters from the best to the worst.
        answers: how many there were.

    Raises:
        ValueError: it is none; says what would be one.
    """
    given = " ".join(text.split())
    if kind == "ranking":
        letters = re.sub(r"[\s,;>]", "", text).upper()
        if sorted(letters) != list(LETTERS[:answers]):
            example = ">".join(reversed(LETTERS[:answers]))
            raise ValueError(f"{_short(given)} should name each answer once, the best first, such as {example}")
        return ">".join(letters)
    for choice in CHOICES[kind]:
        if choice.value.lower() == given.lower():
            return choice.value
    raise ValueError(f"{_short(given)} should be one of {', '.join(choice.value for choice in CHOICES[kind])}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def points(kind: Kind, value: str) -> list[int]:
    """What a rating gives each answer, in the order of their places; more is better.

    Of one answer 1 to 5; of two, 0 for the worse and 1 or 2 for the better; of a ranking, the answers that are behind.
    """
    match kind:
        case "likert":
            return [int(value)]
        case "ranking":
            order = value.split(">")
            return [len(order) - 1 - order.index(letter) for letter in LETTERS[: len(order)]]
        case _:
            ahead = _GRADES.index("tie") - _GRADES.index(value)
            return [max(ahead, 0), max(-ahead, 0)]


def codes(kind: Kind, value: str) -> list[int]:
    """A rating as what raters agree on or not: one number, or each answer's rank."""
    match kind:
        case "likert" | "ranking":
            return points(kind, value)
        case _:
            return [_GRADES.index(value)]
