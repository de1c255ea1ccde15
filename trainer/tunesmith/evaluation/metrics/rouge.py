"""ROUGE, each the mean of the rows' F1 (Lin 2004, aclanthology.org/W04-1013): the values of rouge-score without
stemming, for which longest common subsequences are counted faster, and ROUGE-W, which it lacks."""

from collections import Counter
from collections.abc import Hashable, Sequence

from rouge_score.rouge_scorer import _create_ngrams, _score_ngrams
from rouge_score.scoring import fmeasure

from tunesmith.evaluation.metrics.base import MeanOfRows
from tunesmith.evaluation.metrics.subsequences import common_length, common_places, weighted_lengths
from tunesmith.evaluation.metrics.words import rouge_words

RUN_WEIGHT = 1.2
"""Of ROUGE-W, as in the paper's experiments and in ROUGE 1.5.5."""


class _Rouge(MeanOfRows):
    citation = "Lin 2004, aclanthology.org/W04-1013"


class _OfNgrams(_Rouge):
    length: int

    def score(self, answer: str, reference: str) -> float:
        expected, given = (_create_ngrams(rouge_words(text), self.length) for text in (reference, answer))
        return float(_score_ngrams(expected, given).fmeasure)


class Rouge1(_OfNgrams):
    """F1 of the words that answer and reference share."""

    length = 1


class Rouge2(_OfNgrams):
    """F1 of the pairs of neighbouring words that answer and reference share."""

    length = 2


class RougeL(_Rouge):
    """F1 of the longest common subsequence of words."""

    def score(self, answer: str, reference: str) -> float:
        given, expected = rouge_words(answer), rouge_words(reference)
        return _f1(common_length(expected, given), len(given), len(expected))


class RougeLsum(_Rouge):
    """F1 of the longest common subsequences of sentences, which stand on lines of their own."""

    def score(self, answer: str, reference: str) -> float:
        given, expected = ([rouge_words(line) for line in text.split("\n") if line] for text in (answer, reference))
        return summary_f1(given, expected)


class RougeW(_Rouge):
    """F1 of the longest common subsequence of words, in which runs of words count more."""

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        texts = [(rouge_words(answer), rouge_words(reference)) for answer, reference in pairs]
        return weighted_f1(texts, RUN_WEIGHT)


def weighted_f1(pairs: Sequence[tuple[Sequence[str], Sequence[str]]], weight: float) -> list[float]:
    """ROUGE-W of answers beside references, with f(k) = k^weight (equations 13 to 15)."""
    lengths = weighted_lengths(pairs, weight).tolist()
    return [
        _f1(length ** (1 / weight), len(given), len(expected))
        for length, (given, expected) in zip(lengths, pairs, strict=True)
    ]


def summary_f1(given: Sequence[Sequence[Hashable]], expected: Sequence[Sequence[Hashable]]) -> float:
    """ROUGE-L of summaries (section 3.2): of each sentence of the reference, what any sentence of the answer has of it;
    a word counts as often as it is there.

    Args:
        given: the words of each sentence of the answer.
        expected: those of the reference.
    """
    left = [Counter(word for sentence in text for word in sentence) for text in (given, expected)]
    given_length, expected_length = left[0].total(), left[1].total()
    sentences = list(dict.fromkeys(map(tuple, given)))
    having: dict[Hashable, list[int]] = {}
    for number, sentence in enumerate(sentences):
        for word in set(sentence):
            having.setdefault(word, []).append(number)
    hits = 0
    for wanted in expected:
        others = sorted({number for word in set(wanted) for number in having.get(word, [])})
        places = {place for number in others for place in common_places(wanted, sentences[number])}
        for place in sorted(places):
            word = wanted[place]
            if left[0][word] > 0 and left[1][word] > 0:
                hits += 1
                left[0][word] -= 1
                left[1][word] -= 1
    return _f1(hits, given_length, expected_length)


def _f1(common: float, given: int, expected: int) -> float:
    return float(fmeasure(common / given, common / expected)) if given and expected else 0.0
