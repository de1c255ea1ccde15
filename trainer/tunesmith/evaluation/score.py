"""Scores one model on the test rows, row by row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.evaluation import EvaluationSpec, MetricName
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.data.encode import encode_prompts, prompt_of, response_of, text_of
from tunesmith.data.rows import Row
from tunesmith.evaluation.generate import Answers, generate_answers
from tunesmith.evaluation.loss import TestRows, encode_test, row_losses
from tunesmith.evaluation.metrics import exact_match, token_f1
from tunesmith.evaluation.pairs import TestPairs, by_prompt, preferred, read_test_pairs, score_pairs
from tunesmith.evaluation.statistics import RowScores
from tunesmith.training.failures import LossDivergedError
from tunesmith.training.objective import collator_of

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""

_COMPARISONS: dict[MetricName, Callable[[str, str], float]] = {"exactMatch": exact_match, "tokenF1": token_f1}
_LARGEST_LOSS = 700.0
"""Nats per token; exp of more is no number."""


@dataclass(frozen=True)
class TestSet:
    """What both models are tested on."""

    __test__ = False  # no test case, whatever pytest thinks of the name

    rows: int
    texts: list[dict[str, str]]
    """Prompt and reference of each row, or its text where that is all it holds."""
    encoded: TestRows | None = None
    """For perplexity."""
    prompts: list[list[int]] = field(default_factory=list)
    """Tokens of each prompt, where answers are compared."""
    pairs: TestPairs | None = None
    """For pairAccuracy; these are the rows then."""


@dataclass(frozen=True)
class ModelScores:
    """One model on all test rows."""

    metrics: dict[MetricName, RowScores]
    answers: Answers | None = None
    """Where answers are compared."""
    pairs: NDArray[np.float64] | None = None
    """Of a reward model, the scores of each pair's answers; [pairs, 2]."""


def read_test_set(
    rows: Sequence[Row], spec: FineTuneJobSpec, evaluation: EvaluationSpec, tokenizer: PreTrainedTokenizerBase
) -> TestSet:
    """Tokenizes test rows for the metrics that are asked for.

    Raises:
        InputError: a column is missing, or no row has anything to predict.
    """
    if spec.objective.reward is not None:
        pairs = read_test_pairs(rows, spec, tokenizer)
        return TestSet(rows=len(pairs.pairs), texts=pairs.texts_of_rows, pairs=pairs)
    texts = []
    for row in rows:
        text = text_of(row, spec)
        if text is not None:
            texts.append({"text": text})
        else:
            texts.append({"prompt": prompt_of(row, spec, tokenizer), "reference": response_of(row, spec)})
    asks_answers = not _COMPARISONS.keys().isdisjoint(evaluation.metrics)
    return TestSet(
        rows=len(rows),
        texts=texts,
        encoded=encode_test(rows, spec, tokenizer) if "perplexity" in evaluation.metrics else None,
        prompts=encode_prompts([text["prompt"] for text in texts], spec, tokenizer) if asks_answers else [],
    )


def score_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    test: TestSet,
    spec: FineTuneJobSpec,
    progress: Progress,
) -> ModelScores:
    """Every metric that the spec asks for, row by row.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: the tuned model's, for both models.
        test: what it is tested on.
        spec: the job's, with its evaluation.
        progress: is told of each batch.

    Raises:
        LossDivergedError: a loss is not finite.
    """
    assert spec.evaluation is not None
    evaluation = spec.evaluation
    metrics: dict[MetricName, RowScores] = {}
    if test.pairs is not None:
        scores = score_pairs(
            model,
            test.pairs,
            tokenizer,
            evaluation.batch_size,
            lambda done: progress("pair accuracy", done, test.rows),
        )
        return ModelScores({"pairAccuracy": by_prompt(preferred(scores), test.pairs.prompts)}, pairs=scores)
    if test.encoded is not None:
        pieces = len(test.encoded.pieces)
        losses = row_losses(
            model,
            test.encoded,
            collator_of(spec, model, tokenizer, packed=False),
            evaluation.batch_size,
            lambda done: progress("perplexity", done, pieces),
        )
        _refuse_diverged(losses, test.encoded.tokens)
        metrics["perplexity"] = RowScores(losses, test.encoded.tokens, exponential=True)
    if not test.prompts:
        return ModelScores(metrics)
    answers = generate_answers(
        model,
        tokenizer,
        test.prompts,
        evaluation.max_new_tokens,
        evaluation.batch_size,
        lambda done: progress("answers", done, test.rows),
    )
    for name, compare in _COMPARISONS.items():
        if name in evaluation.metrics:
            metrics[name] = compare_answers(compare, answers.texts, [text["reference"] for text in test.texts])
    return ModelScores(metrics, answers)


def compare_answers(
    compare: Callable[[str, str], float], answers: Sequence[str | None], references: Sequence[str]
) -> RowScores:
    """A score for each row; where the model could not answer it is 0, even if nothing was the right answer."""
    scores = [0.0 if a is None else compare(a, r) for a, r in zip(answers, references, strict=True)]
    return RowScores(np.array(scores), np.ones(len(scores)))


def _refuse_diverged(losses: NDArray[np.float64], tokens: NDArray[np.float64]) -> None:
    with np.errstate(invalid="ignore"):
        bad = ~(losses <= _LARGEST_LOSS * tokens)  # NaN is not smaller either
    if bad.any():
        row = int(bad.argmax())
        raise LossDivergedError(f"{int(bad.sum())} test rows have a loss that is no number, the first is row {row + 1}")
