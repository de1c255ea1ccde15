"""What all metrics have in common."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from tunesmith.evaluation.statistics import Floats, RowScores, mean_score, mean_share

Text = str | None
"""An answer; None where the model could not give one, which is never right."""


class TextMetric(evaluate.Metric):  # type: ignore[misc]  # of a library without annotations
    """A metric of Hugging Face's `evaluate`, whose value is made of sums over the rows.

    It reads nothing from a network and writes nothing to disk, not even the folders that `evaluate` makes in the home
    directory: a pod's may be read-only.
    """

    citation = ""
    """Where the metric is described."""

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)
        self.settings: dict[str, str] = {}
        """What the figures depend on, for the report."""
        self.warnings: list[str] = []
        """What a reader should know of the last rows, a sentence each."""

    @abstractmethod
    def parts(self, answers: Sequence[Text], references: Sequence[str]) -> Floats:
        """What each row adds; [rows, sums]."""

    @abstractmethod
    def measure(self, sums: Floats) -> Floats:
        """The metric from the sums; [..., sums] to [...]."""

    @property
    def label(self) -> str:
        """Its name in evaluation.metrics: that of the class, with a small letter."""
        name = type(self).__name__
        return name[0].lower() + name[1:]

    def rows(self, answers: Sequence[Text], references: Sequence[str]) -> RowScores:
        """All rows, for statistics; every row counts."""
        return RowScores(self.parts(answers, references), np.ones(len(references), np.bool_), self.measure)

    def _info(self) -> Any:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation=self.citation,
            inputs_description="predictions: answers; references: one right answer for each",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: Sequence[Text], references: Sequence[str]) -> dict[str, float]:
        return {self.label: float(self.measure(self.parts(predictions, references).sum(axis=0)))}

    def _build_data_dir(self) -> str:
        return ""  # nothing is kept there


class MeanOfRows(TextMetric):
    """The mean of a score of each row; one of `score` and `scores` says which."""

    is_share = True
    """Whether a score is from 0 to 1."""

    def score(self, answer: str, reference: str) -> float:
        """Of one row."""
        (score,) = self.scores([(answer, reference)])
        return score

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Of several rows, where they are better looked at together."""
        return [self.score(answer, reference) for answer, reference in pairs]

    def rows(self, answers: Sequence[Text], references: Sequence[str]) -> RowScores:
        scores, counts = self.parts(answers, references).T
        return mean_share(scores, counts) if self.is_share else mean_score(scores, counts)

    def parts(self, answers: Sequence[Text], references: Sequence[str]) -> Floats:
        given = [(a, r) for a, r in zip(answers, references, strict=True) if a is not None]
        return mean_parts(answers, self.scores(given))

    def measure(self, sums: Floats) -> Floats:
        mean: Floats = sums[..., 0] / sums[..., 1]
        return mean


def mean_parts(answers: Sequence[Text], scores: Iterable[float], worst: float = 0.0) -> Floats:
    """A score and 1 for each row.

    Args:
        answers: of all rows.
        scores: of those that have an answer, in order.
        worst: the score of the others.
    """
    values = np.full(len(answers), worst)
    values[[answer is not None for answer in answers]] = np.fromiter(scores, np.float64)
    return np.stack([values, np.ones(len(answers))], axis=1)
