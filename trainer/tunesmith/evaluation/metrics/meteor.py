"""METEOR by nltk: words that are the same, of the same stem, or synonyms by WordNet, in like order."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from nltk.corpus import wordnet
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score

from tunesmith.evaluation.metrics.base import MeanOfRows
from tunesmith.evaluation.metrics.words import words

_KEPT = 100_000
"""Words whose stem or synonyms are remembered."""


class Meteor(MeanOfRows):
    """Words in common by themselves, by their stems and by their synonyms, recall counting nine times, with a penalty
    for other order. Without WordNet there are no synonyms, and values are lower."""

    citation = "Banerjee & Lavie 2005, aclanthology.org/W05-0909; Lavie & Agarwal 2007, aclanthology.org/W07-0734"

    def __init__(self) -> None:
        super().__init__()
        found = _wordnet()
        self._stemmer = _Stems()
        self._synonyms = _Synonyms(found)
        self.settings["meteor"] = "exact, stem and WordNet" if found is not None else "exact and stem, without WordNet"
        if found is None:
            self.warnings = [
                "meteor knows no synonyms, and compares with no other METEOR: WordNet is not in nltk's data path; put "
                "`python -m nltk.downloader -d DIR wordnet` into the image and set NLTK_DATA=DIR"
            ]

    def score(self, answer: str, reference: str) -> float:
        return meteor(words(answer), words(reference), self._stemmer, self._synonyms)


def meteor(given: list[str], expected: list[str], stemmer: Any, synonyms: Any) -> float:
    """METEOR of one answer, of words."""
    return float(single_meteor_score(expected, given, stemmer=stemmer, wordnet=synonyms))


def _wordnet() -> Any:
    """nltk's reader, where its data path has WordNet; looks at this machine alone."""
    try:
        wordnet.ensure_loaded()
    except LookupError:
        return None
    return wordnet


class _Stems:
    """Porter's stems, each made once: they take most of the time."""

    def __init__(self) -> None:
        self.stem = lru_cache(_KEPT)(PorterStemmer().stem)


class _Synonyms:
    """WordNet's sets of synonyms by word, each looked up once; none without WordNet."""

    def __init__(self, reader: Any) -> None:
        look_up: Callable[[str], list[Any]] = reader.synsets if reader is not None else lambda word: []
        self.synsets = lru_cache(_KEPT)(look_up)
