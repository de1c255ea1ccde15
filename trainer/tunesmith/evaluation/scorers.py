"""The metrics that an evaluation asks of answers, by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.metric import MetricName
from tunesmith.evaluation.metrics.base import Text, TextMetric
from tunesmith.evaluation.metrics.bert_score import PLACE, BertScore, load_encoder
from tunesmith.evaluation.metrics.classes import Accuracy, ClassMetric, MacroF1, MicroF1
from tunesmith.evaluation.metrics.meteor import Meteor
from tunesmith.evaluation.metrics.overlap import ExactMatch, NumericMatch, TokenF1
from tunesmith.evaluation.metrics.own import Own
from tunesmith.evaluation.metrics.rouge import Rouge1, Rouge2, RougeL, RougeLsum, RougeW
from tunesmith.evaluation.metrics.translation import Bleu, Chrf
from tunesmith.evaluation.statistics import RowScores
from tunesmith.models.load import locate_source
from tunesmith.sources import Resolver

Progress = Callable[[str, int, int], None]

TEXT_METRICS: Mapping[MetricName, Callable[[], TextMetric]] = {
    "exactMatch": ExactMatch,
    "numericMatch": NumericMatch,
    "tokenF1": TokenF1,
    "accuracy": Accuracy,
    "macroF1": MacroF1,
    "microF1": MicroF1,
    "bleu": Bleu,
    "chrf": Chrf,
    "rouge1": Rouge1,
    "rouge2": Rouge2,
    "rougeL": RougeL,
    "rougeLsum": RougeLsum,
    "rougeW": RougeW,
    "meteor": Meteor,
}
"""Those that need nothing but the texts: all of api.metric.OF_TEXTS but bertScore, which needs an encoder."""


def compare_texts(name: str, answers: Sequence[Text], references: Sequence[str]) -> RowScores | None:
    """Answers beside references by a metric of TEXT_METRICS; None where it is none of them."""
    metric = TEXT_METRICS.get(cast(MetricName, name))
    return metric().rows(answers, references) if metric is not None else None


class Scorers:
    """The metrics of one evaluation that compare answers with references. What an encoder needs is loaded when the
    first answers are compared: the model that gave them is gone by then.

    Args:
        evaluation: asks for them.
        resolver: finds the encoder.
        allowed: modules that own metrics may come from.
        progress: is told of each batch of the encoder.

    Raises:
        InputError: an own metric is not allowed or not there, or there is no encoder.
    """

    def __init__(
        self, evaluation: EvaluationSpec, resolver: Resolver, allowed: Sequence[str], progress: Progress
    ) -> None:
        self._evaluation, self._resolver, self._progress = evaluation, resolver, progress
        self._metrics: dict[str, TextMetric] = {
            name: TEXT_METRICS[name]() for name in evaluation.metrics if name in TEXT_METRICS
        }
        self._metrics |= {
            metric.name: Own(metric, f"spec.evaluation.own[{index}]", allowed)
            for index, metric in enumerate(evaluation.own)
        }
        ours = [name for name in evaluation.metrics if name in TEXT_METRICS or name == "bertScore"]
        self.names: list[str] = [*ours, *(metric.name for metric in evaluation.own)]
        if "bertScore" in self.names and evaluation.bert_score is not None:
            locate_source(evaluation.bert_score.source, resolver, f"{PLACE}.source")

    @property
    def settings(self) -> dict[str, str]:
        """What the figures depend on."""
        return {name: value for metric in self._metrics.values() for name, value in metric.settings.items()}

    @property
    def warnings(self) -> list[str]:
        """What a reader of the figures should know."""
        return [warning for metric in self._metrics.values() for warning in metric.warnings]

    def check(self, references: Sequence[str]) -> None:
        """Refuses references that a metric is not made for, before anything is answered.

        Raises:
            InputError: there are too many classes.
        """
        for metric in self._metrics.values():
            if isinstance(metric, ClassMetric):
                metric.check(references)

    def rows(self, name: str, answers: Sequence[Text], references: Sequence[str]) -> RowScores | None:
        """Answers from wherever beside their references; None where the metric is no comparison of texts.

        Raises:
            InputError: the encoder cannot be loaded, or an own metric fails.
        """
        if name not in self.names:
            return None
        if name not in self._metrics:
            self._metrics[name] = self._bert_score(len(references))
        return self._metrics[name].rows(answers, references)

    def _bert_score(self, rows: int) -> BertScore:
        encoder = self._evaluation.bert_score
        assert encoder is not None
        model, tokenizer = load_encoder(encoder, self._resolver)

        def tell(done: int) -> None:
            self._progress("bertScore", done, rows)

        metric = BertScore(model, tokenizer, self._evaluation.batch_size, tell)
        metric.settings["bertScore"] = f"{encoder.source}, layer {encoder.layer or 'last'}, no weights, no baseline"
        return metric
