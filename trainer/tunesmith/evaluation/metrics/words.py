"""What an answer is worth beside its reference: pure functions of two strings."""

import re
import unicodedata
from collections import Counter

_APOSTROPHES = "'\u2019"
_MINUS = "\u2212"
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)  # how an emoji is drawn, not which
_UNSPACED = ("CJK ", "HIRAGANA ", "KATAKANA", "THAI ", "LAO ", "KHMER ", "MYANMAR ")
"""Starts of the Unicode names of letters that are written without spaces between words."""


def exact_match(answer: str, reference: str) -> float:
    """1 where answer and reference are the same text, else 0.

    White space around both is ignored, and a composed letter equals the same letter written with combining marks
    (Unicode NFC). Case, punctuation and white space within count. Two empty texts are the same.
    """
    return float(_same(answer, reference))


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of the precision and recall of the answer's words, counted with repetition (Rajpurkar et al.
    2016, arXiv:1606.05250).

    SQuAD's script deletes ASCII punctuation and the words a, an, the. That turns -5 into 5, 3.5 into 35, the choice "A"
    into nothing, and leaves other scripts and typography alone; so `words` differs. A text without any word (empty, or
    only punctuation) scores 1 beside the same text and else 0, never for being as empty as the other.

    Returns:
        Between 0 and 1.
    """
    given, expected = words(answer), words(reference)
    if not given or not expected:
        return float(_same(answer, reference))
    common = (Counter(given) & Counter(expected)).total()
    return 2 * common / (len(given) + len(expected))


def words(text: str) -> list[str]:
    """The words of a text in any language, without regard to case or compatibility forms (NFKC, full width).

    - Punctuation separates words, but stays inside numbers (3.5, 12:30) and as the sign before one (-5); an apostrophe
      within a word is dropped (don't, dont).
    - A letter of a script that is written without spaces is a word of its own, as in MLQA (Lewis et al. 2020,
      arXiv:1910.07475).
    - So is a symbol: an emoji, a currency, an operator.
    - Articles stay: they are words in other languages, and answers.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace(_MINUS, "-")
    shape = text.translate(_SHAPES)
    return [text[m.start() : m.end()].translate(_WITHOUT_APOSTROPHES) for m in _WORD.finditer(shape)]


def _same(answer: str, reference: str) -> bool:
    return unicodedata.normalize("NFC", answer).strip() == unicodedata.normalize("NFC", reference).strip()


class _Shapes(dict[int, str]):
    """One letter for the kind of each character, found out once."""

    def __missing__(self, code: int) -> str:
        self[code] = kind = _kind(chr(code))
        return kind


def _kind(char: str) -> str:
    """l letter, c letter of an unspaced script, m mark, n number, s symbol, h hyphen, a apostrophe, p punctuation, or a
    space for none of these."""
    if char in _APOSTROPHES:
        return "a"
    if char == "-":
        return "h"
    if ord(char) in _VARIATION_SELECTORS:
        return " "
    category = unicodedata.category(char)[0]
    if category == "L" and unicodedata.name(char, "").startswith(_UNSPACED):
        return "c"
    return category.lower() if category in "LMNSP" else " "


_SHAPES = _Shapes()
_WITHOUT_APOSTROPHES = dict.fromkeys(map(ord, _APOSTROPHES))
# no possessive quantifiers: Python 3.11 before 3.11.5 matches groups with them wrongly
_WORD = re.compile(
    r"""
    (?<![lmn]) h? n+ (?: [pah] n+ )* (?! [lmn] | [pah] n )    # a number, whole or not
    | [lmn]+ (?: a [lmn]+ )*                        # a word
    | [cs] m*
    """,
    re.VERBOSE,
)


def is_unspaced(text: str) -> bool:
    """Whether most letters of a text belong to scripts that are written without spaces."""
    if text.isascii():
        return False
    shape = text.translate(_SHAPES)
    return shape.count("c") > shape.count("l")


def rouge_words(text: str) -> list[str]:
    """Words as ROUGE counts them: runs of letters and digits, lower case. Of ASCII text these are exactly those of
    rouge-score, which knows no other letters; a letter of an unspaced script is a word of its own."""
    text = text.lower()
    if text.isascii():
        return _ALPHANUMERIC.findall(text)
    shape = text.translate(_SHAPES)
    return [text[m.start() : m.end()] for m in _LETTERS.finditer(shape)]


_ALPHANUMERIC = re.compile("[a-z0-9]+")
_LETTERS = re.compile("[lmn]+|cm*")
