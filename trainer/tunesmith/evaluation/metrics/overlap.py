"""Metrics of single answers: the same text, the same words, the same number."""

from tunesmith.evaluation.metrics.base import MeanOfRows
from tunesmith.evaluation.metrics.numbers import last_number
from tunesmith.evaluation.metrics.words import exact_match, token_f1


class ExactMatch(MeanOfRows):
    """The share of answers that are the reference, but for white space around it."""

    def score(self, answer: str, reference: str) -> float:
        return exact_match(answer, reference)


class TokenF1(MeanOfRows):
    """The mean F1 of the words that answer and reference share."""

    citation = "Rajpurkar et al. 2016, arXiv:1606.05250"

    def score(self, answer: str, reference: str) -> float:
        return token_f1(answer, reference)


class NumericMatch(MeanOfRows):
    """The share of answers whose last number is the last number of the reference."""

    citation = "Cobbe et al. 2021, arXiv:2110.14168"

    def score(self, answer: str, reference: str) -> float:
        """0 where one of them has no number: there is nothing that could be right then."""
        expected = last_number(reference)
        return float(expected is not None and last_number(answer) == expected)
