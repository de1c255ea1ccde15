"""Metrics of classification: the references are classes, and an answer names one."""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from tunesmith.api.load import InputError, Problem
from tunesmith.evaluation.metrics.base import Text, TextMetric
from tunesmith.evaluation.statistics import Floats

MOST_CLASSES = 100
"""More are no classes but texts, for which each reference would be one."""


class ClassMetric(TextMetric):
    """Counts of each class: hits, answers that name it, references that do.

    Classes are the references that differ, compared as by exactMatch. An answer that is none of them hits nothing.
    """

    def parts(self, answers: Sequence[Text], references: Sequence[str]) -> Floats:
        """[rows, 3 x classes]; the hits of all classes first, then the answers, then the references.

        Raises:
            InputError: there are too many classes.
        """
        self.check(references)
        expected = [_class(reference) for reference in references]
        numbers = {name: number for number, name in enumerate(sorted(set(expected)))}
        parts = np.zeros((len(expected), 3, len(numbers)))
        for row, (answer, right) in enumerate(zip(answers, expected, strict=True)):
            parts[row, 2, numbers[right]] = 1
            given = numbers.get(_class(answer)) if answer is not None else None
            if given is not None:
                parts[row, 1, given] = 1
                parts[row, 0, given] = given == numbers[right]
        return parts.reshape(len(expected), -1)

    @staticmethod
    def check(references: Iterable[str]) -> None:
        """Refuses references that are too many to be classes.

        Raises:
            InputError: they are.
        """
        classes = len(set(map(_class, references)))
        if classes > MOST_CLASSES:
            message = (
                f"accuracy, macroF1 and microF1 are for classes, of which the test set has {classes:,} (at most "
                f"{MOST_CLASSES}); use exactMatch or tokenF1 for free text"
            )
            raise InputError(Problem(message, "spec.evaluation.metrics"))

    @staticmethod
    def counts(sums: Floats) -> tuple[Floats, Floats, Floats]:
        """Hits, answers and references of each class; [..., classes] each."""
        hits, given, expected = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
        return hits, given, expected


class Accuracy(ClassMetric):
    """The share of answers that name the right class."""

    def measure(self, sums: Floats) -> Floats:
        hits, _, expected = self.counts(sums)
        share: Floats = hits.sum(axis=-1) / expected.sum(axis=-1)
        return share


class MicroF1(ClassMetric):
    """F1 of all classes together: an answer that names no class misses one, but is no false alarm."""

    def measure(self, sums: Floats) -> Floats:
        hits, given, expected = self.counts(sums)
        f1: Floats = 2 * hits.sum(axis=-1) / (given + expected).sum(axis=-1)
        return f1


class MacroF1(ClassMetric):
    """The mean F1 of the classes, each counting alike. Of some rows, it is over the classes that are right in one
    of them: a draw that lacks a rare class has not missed it."""

    def measure(self, sums: Floats) -> Floats:
        hits, given, expected = self.counts(sums)
        each = np.divide(2 * hits, given + expected, out=np.zeros(hits.shape), where=expected > 0)
        mean: Floats = each.sum(axis=-1) / (expected > 0).sum(axis=-1)
        return mean


def _class(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()
