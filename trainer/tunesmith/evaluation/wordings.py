"""How much depends on the wording of prompts: what becomes of the answers when the test rows are put in other words."""

import itertools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Interval
from tunesmith.evaluation.compare import Scored, metric_reports
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.metrics.numbers import last_number
from tunesmith.evaluation.prompts import PLACE, Variant
from tunesmith.evaluation.report import MetricReport, PromptsReport, VariantReport
from tunesmith.evaluation.statistics import RowScores, estimate, mean_score, mean_share
from tunesmith.evaluation.verdict import Better


@dataclass(frozen=True)
class Wording:
    """What became of the answers to one wording; the job's own is one too."""

    answers: dict[str, Answers]
    """Of tuned, and of base where there is one."""
    scores: dict[str, RowScores]
    """Of the same."""


def prompts_report(
    metric: str,
    better: Better,
    own_texts: Sequence[str],
    own: Wording,
    variants: Sequence[Variant],
    wordings: Sequence[Wording],
) -> PromptsReport:
    """The figures of each wording beside the job's own; verdicts are corrected for all of them (Holm).

    Args:
        metric: what answers are judged by.
        better: which values of it are good.
        own_texts: the job's own prompts.
        own: what became of these.
        variants: the others.
        wordings: what became of those, in the same order.

    Raises:
        InputError: to one of them there is no answer that can be judged.
    """
    beside = {"own": own.scores["tuned"]}
    judged = metric_reports([Scored(metric, better, wording.scores["tuned"], beside) for wording in wordings])
    parts = zip(variants, wordings, judged, strict=True)
    templates = [w.answers["tuned"].texts for v, w in zip(variants, wordings, strict=True) if v.kind == "template"]
    asked = [own.answers["tuned"].texts, *templates]
    return PromptsReport.model_validate(
        {
            "metric": metric,
            "better": better,
            "own": estimate(own.scores["tuned"]).tuned,
            "base": _of_base(own),
            "ownTokens": _length(own.answers["tuned"]),
            "variants": [_variant_report(metric, own_texts, own, *part) for part in parts],
            "consistency": same_answers(metric, asked) if templates else None,
        }
    )


def _variant_report(
    metric: str, own_texts: Sequence[str], own: Wording, variant: Variant, wording: Wording, judged: MetricReport
) -> VariantReport:
    if not judged.comparisons:
        message = f"{variant.name} leaves no row with an answer to compare with that to the job's own prompt"
        raise InputError(Problem(message, PLACE))
    (beside,) = judged.comparisons
    differing = [row for row, (one, other) in enumerate(zip(own_texts, variant.texts, strict=True)) if one != other]
    shown = differing[0] if differing else 0
    both = wording.scores["tuned"].used & own.scores["tuned"].used
    answers = wording.answers["tuned"]
    return VariantReport.model_validate(
        {
            "name": variant.name,
            "kind": variant.kind,
            "template": variant.template,
            "row": shown + 1,
            "own": own_texts[shown],
            "example": variant.texts[shown],
            "changed": len(differing),
            "rows": int(both.sum()),
            "tuned": judged.tuned,
            "base": _of_base(wording),
            "difference": beside.difference,
            "correctedP": beside.corrected_p,
            "verdict": beside.verdict,
            "sameAnswers": same_answers(metric, [own.answers["tuned"].texts, answers.texts]),
            "answerTokens": _length(answers),
        }
    )


def _of_base(wording: Wording) -> Interval | None:
    return estimate(wording.scores["base"]).tuned if "base" in wording.scores else None


def _length(answers: Answers) -> Interval | None:
    """Mean length in tokens, the one that ends an answer included."""
    given = np.array([text is not None for text in answers.texts], np.float64)
    if not given.any():
        return None
    lengths = np.array([len(answers.written(row)) for row in range(len(given))], np.float64)
    return estimate(mean_score(lengths * given, given)).tuned


def same_answers(metric: str, wordings: Sequence[Sequence[str | None]]) -> Interval:
    """How often two wordings of a row get the same answer: the same number where the metric compares numbers, else the
    same text as exactMatch has it. A prompt without an answer has none in common with another.

    Args:
        metric: what answers are judged by.
        wordings: the answers to each.

    Returns:
        Over rows; of a row, over all pairs of wordings.
    """
    keys = [[_key(metric, text) for text in texts] for texts in wordings]
    pairs = list(itertools.combinations(range(len(keys)), 2))
    same = [
        sum(of_row[one] is not None and of_row[one] == of_row[other] for one, other in pairs) / len(pairs)
        for of_row in zip(*keys, strict=True)
    ]
    return estimate(mean_share(np.array(same, np.float64))).tuned


def _key(metric: str, text: str | None) -> str | Fraction | None:
    if text is None:
        return None
    if metric == "numericMatch" and (number := last_number(text)) is not None:
        return number
    return unicodedata.normalize("NFC", text).strip()


def lines_of(
    metric: str,
    variants: Sequence[Variant],
    wordings: Sequence[Wording],
    line_of: Callable[[Answers, int], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """The lines of prompts.jsonl: a row in other words, and each model's answer with its score.

    Args:
        metric: what answers are judged by.
        variants: the wordings.
        wordings: what became of them.
        line_of: what is written of an answer.
    """
    for variant, wording in zip(variants, wordings, strict=True):
        values = {model: scores.of_rows() for model, scores in wording.scores.items()}
        for row, text in enumerate(variant.texts):
            line: dict[str, Any] = {"variant": variant.name, "row": row + 1, "prompt": text}
            for model, answers in wording.answers.items():
                value = values[model][row]
                line[model] = line_of(answers, row) | ({} if np.isnan(value) else {metric: float(value)})
            yield line
