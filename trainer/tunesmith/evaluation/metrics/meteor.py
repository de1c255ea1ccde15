"""METEOR by nltk: words that are the same, of the same stem, or synonyms by WordNet, in like order."""

from functools import lru_cache
from typing import Any
from warnings import catch_warnings, simplefilter

from nltk.corpus import wordnet
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score

from tunesmith.api.load import InputError, Problem
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
        found, reason = _wordnet()
        self._stemmer = _Stems()
        self._synonyms = _Synonyms(found)
        self.settings["meteor"] = "exact, stem and WordNet" if found is not None else "exact and stem, without WordNet"
        if found is None:
            self.warnings = [f"meteor knows no synonyms, and compares with no other METEOR: {reason}"]

    def score(self, answer: str, reference: str) -> float:
        return meteor(words(answer), words(reference), self._stemmer, self._synonyms)


def meteor(given: list[str], expected: list[str], stemmer: Any, synonyms: Any) -> float:
    """METEOR of one answer, of words."""
    return float(single_meteor_score(expected, given, stemmer=stemmer, wordnet=synonyms))


def _wordnet() -> tuple[Any, str]:
    """nltk's reader, where its data path has WordNet, else why not; looks at this machine alone."""
    with catch_warnings(record=True) as said:  # of files that nltk does not trust, for they are not ours or root's
        simplefilter("always")
        try:
            wordnet.ensure_loaded()
            return wordnet, ""
        except LookupError:
            pass
    refusals = [str(each.message) for each in said if issubclass(each.category, RuntimeWarning)]
    missing = (
        "WordNet is not in nltk's data path; put `python -m nltk.downloader -d DIR wordnet` into the image and set "
        "NLTK_DATA=DIR"
    )
    return None, refusals[0].removesuffix(".") if refusals else missing


class _Stems:
    """Porter's stems, each made once: they take most of the time."""

    def __init__(self) -> None:
        self.stem = lru_cache(_KEPT)(PorterStemmer().stem)


class _Synonyms:
    """WordNet's sets of synonyms by word, each looked up once; none without WordNet."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.synsets = lru_cache(_KEPT)(self._look_up)

    def _look_up(self, word: str) -> list[Any]:
        found: list[Any] = self._reader.synsets(word) if self._reader is not None else []
        if None in found:  # places in these files are counted in bytes: other line ends are enough
            problem = f"the files of WordNet do not fit together ({word!r} is not where its index says); get them anew"
            raise InputError(Problem(problem, file=str(self._reader.root)))
        return found
