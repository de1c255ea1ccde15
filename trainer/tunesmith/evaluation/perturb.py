"""Small changes of a prompt that leave its question the same: the case of letters, typos, the order of sentences.

What is drawn depends on the text and the kind of change alone, so it is the same in every run, batch and order of rows.
"""

import random
import unicodedata
from typing import Literal

import regex

Change = Literal["case", "typos", "order"]

_SEED = 0
_SHORTEST_WORD = 4
"""Letters of a word that may get a typo: in shorter ones it soon makes another word (no, on)."""
_UNSPACED_WORD = 4
"""Letters of a script without spaces that count as a word."""

_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_UNSPACED_RUN = regex.compile(rf"(?:{_UNSPACED.pattern}\p{{M}}*)+")
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}_'\u2019]+")
_LETTER = regex.compile(r"\X")

_ABBREVIATIONS = r"(?<!\b(?:\p{L}|Mr|Mrs|Ms|Dr|Prof|St|vs|etc|No|Fig|approx|ca)\.)"
_BREAK = regex.compile(
    rf"""
    \s*\n\s*                                      # a new line
    | (?<=[.!?؟।…][\p{{Pe}}\p{{Pf}}"']?){_ABBREVIATIONS}\s+
    | (?<=[。\uff01\uff1f｡][\p{{Pe}}\p{{Pf}}]?)\s*(?=[^\p{{Pe}}\p{{Pf}}\s])   # scripts that put no space there
    """,
    regex.VERBOSE,
)


def changed(text: str, change: Change, typo_rate: float) -> str:
    """A text with one kind of change; the same text where it leaves nothing to change.

    Args:
        text: of a prompt, without the template around it.
        change: which kind.
        typo_rate: the share of words with a typo.
    """
    draw = random.Random(f"{_SEED} {change} {text}")
    match change:
        case "case":
            return _other_case(text, draw)
        case "typos":
            return _with_typos(text, typo_rate, draw)
        case "order":
            return _in_other_order(text, draw)


def _other_case(text: str, draw: random.Random) -> str:
    """All letters large, all small, or each the other way round; one of those that make a difference."""
    others = sorted({text.upper(), text.lower(), text.swapcase()} - {text})
    return draw.choice(others) if others else text


def _with_typos(text: str, rate: float, draw: random.Random) -> str:
    """Typos in a share of the words that can have one, at least in one: two neighbours swapped, a letter left out, or
    one doubled, as in Belinkov & Bisk (2018, arXiv:1711.02173); never in the first letter.

    Left alone are words with a number in them, of any script (12, x2, 三十), and short ones. In a script that is
    written without spaces, every four letters in a row count as a word, and neighbours are swapped only: a letter less
    or more would be a word less or more.
    """
    words = [span for match in _WORD.finditer(text) for span in _spans(match.start(), match.group())]
    count = min(len(words), max(1, round(rate * len(words))))
    pieces, end = [], 0
    for number in sorted(draw.sample(range(len(words)), count)):
        start, word = words[number]
        pieces += [text[end:start], _typo(word, draw)]
        end = start + len(word)
    return "".join([*pieces, text[end:]])


def _spans(start: int, word: str) -> list[tuple[int, str]]:
    """The parts of a word that may have a typo, each with its place in the text."""
    if not _UNSPACED.search(word):
        plain = sum(map(str.isalpha, word)) >= _SHORTEST_WORD and not any(map(_is_number, word))
        return [(start, word)] if plain else []
    parts = []
    for run in _UNSPACED_RUN.finditer(word):
        letters, place = _LETTER.findall(run.group()), start + run.start()
        for first in range(0, len(letters), _UNSPACED_WORD):
            few = letters[first : first + _UNSPACED_WORD]
            part = "".join(few)
            if len(set(few)) > 1 and not any(map(_is_number, part)):
                parts.append((place, part))
            place += len(part)
    return parts


def _typo(word: str, draw: random.Random) -> str:
    """A word that is wrong by a letter."""
    letters = _LETTER.findall(word)
    if _UNSPACED.search(word):
        differing = [i for i in range(len(letters) - 1) if letters[i] != letters[i + 1]]
        return "".join(_swapped(letters, draw.choice(differing)))
    place = draw.randrange(1, len(letters))
    ways = [letters[:place] + letters[place + 1 :], letters[: place + 1] + letters[place:]]
    if place + 1 < len(letters) and letters[place] != letters[place + 1]:
        ways.append(_swapped(letters, place))
    return "".join(draw.choice(ways))


def _swapped(letters: list[str], place: int) -> list[str]:
    return [*letters[:place], letters[place + 1], letters[place], *letters[place + 2 :]]


def _is_number(char: str) -> bool:
    return unicodedata.numeric(char, None) is not None


def _in_other_order(text: str, draw: random.Random) -> str:
    """The sentences, or lines, in another order; what stands between them stays where it is."""
    sentences, breaks, end = [], [], 0
    for match in _BREAK.finditer(text):
        if text[end : match.start()].strip() and text[match.end() :].strip():
            sentences.append(text[end : match.start()])
            breaks.append(match.group())
            end = match.end()
    sentences.append(text[end:])
    order = list(sentences)
    draw.shuffle(order)
    if order == sentences:
        order = [*order[1:], order[0]]
    return "".join(part for pair in zip(order, [*breaks, ""], strict=True) for part in pair)
