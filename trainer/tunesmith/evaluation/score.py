"""Scores one model on the test rows, row by row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.metric import MetricName
from tunesmith.data.encode import encode_prompts, prompt_of, response_of, text_of
from tunesmith.data.rows import Row
from tunesmith.evaluation import policy
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.harness import Harness
from tunesmith.evaluation.loss import TestRows, encode_test, loss_work, losses_of_rows
from tunesmith.evaluation.metrics import exact_match, token_f1
from tunesmith.evaluation.outputs import Outputs
from tunesmith.evaluation.pairs import TestPairs, by_prompt, pair_scores, pair_work, preferred, read_test_pairs
from tunesmith.evaluation.policy import Drawn
from tunesmith.evaluation.statistics import Floats, RowScores, mean_score, perplexity
from tunesmith.sources import Resolver
from tunesmith.training.failures import LossDivergedError

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""

_COMPARISONS: dict[MetricName, Callable[[str, str], float]] = {"exactMatch": exact_match, "tokenF1": token_f1}
_OF_LOSSES: frozenset[MetricName] = frozenset({"loss", "perplexity"})
_OF_POLICIES: frozenset[MetricName] = policy.OF_ANSWERS | {"divergence"}
_LARGEST_LOSS = 700.0
"""Nats per token; exp of more is no number."""


@dataclass(frozen=True)
class TestSet:
    """What both models are tested on."""

    __test__ = False  # no test case, whatever pytest thinks of the name

    rows: int
    texts: list[dict[str, str]]
    """Prompt and reference of each row, or its text where that is all it holds; prompts to be answered by a policy need
    no reference."""
    encoded: TestRows | None = None
    """For perplexity."""
    prompts: list[list[int]] = field(default_factory=list)
    """Tokens of each prompt, where there are answers."""
    pairs: TestPairs | None = None
    """For pairAccuracy; these are the rows then."""


@dataclass(frozen=True)
class ModelScores:
    """One model on all test rows."""

    metrics: dict[MetricName, RowScores]
    losses: Floats | None = None
    """The negative log-likelihood of each row's tokens, in nats; [rows]."""
    answers: Answers | None = None
    """Where answers are compared."""
    pairs: NDArray[np.float64] | None = None
    """Of a reward model, the scores of each pair's answers; [pairs, 2]."""
    drawn: Drawn | None = None
    """Answers of the tuned policy, for its divergence."""
    likelihoods: Floats | None = None
    """Their log-probabilities; [answers]."""
    harness: Harness = field(default_factory=dict)
    """Metrics of tasks of lm-evaluation-harness."""


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
            prompt = {"prompt": prompt_of(row, spec, tokenizer)}
            texts.append(prompt | ({"reference": response_of(row, spec)} if _has_reference(row, spec) else {}))
    asks_answers = not (_COMPARISONS.keys() | _OF_POLICIES).isdisjoint(evaluation.metrics)
    return TestSet(
        rows=len(rows),
        texts=texts,
        encoded=encode_test(rows, spec, tokenizer) if not _OF_LOSSES.isdisjoint(evaluation.metrics) else None,
        prompts=encode_prompts([text["prompt"] for text in texts], spec, tokenizer) if asks_answers else [],
    )


def _has_reference(row: Row, spec: FineTuneJobSpec) -> bool:
    """Whether a row's response is there, or must be."""
    ppo, evaluation = spec.objective.ppo, spec.evaluation
    if ppo is None or evaluation is None or spec.dataset.columns.response in row:
        return True
    return policy.needs_references(ppo, evaluation.metrics)


def score_model(
    outputs: Outputs, test: TestSet, spec: FineTuneJobSpec, progress: Progress, drawn: Drawn | None = None
) -> ModelScores:
    """Every metric that the spec asks for, row by row.

    Args:
        outputs: the model's.
        test: what it is tested on.
        spec: the job's, with its evaluation.
        progress: is told of each batch.
        drawn: for the divergence of policies, the answers that the tuned one has drawn; without any, it draws some.

    Raises:
        LossDivergedError: a loss is not finite.
    """
    assert spec.evaluation is not None
    evaluation = spec.evaluation
    metrics: dict[MetricName, RowScores] = {}
    if test.pairs is not None:
        work = pair_work(test.pairs, outputs.tokenizer, evaluation.batch_size)
        found, _ = outputs.of(work, lambda done: progress("pair accuracy", done, test.rows))
        scores = pair_scores(test.pairs, found)
        return ModelScores({"pairAccuracy": by_prompt(preferred(scores), test.pairs.prompts)}, pairs=scores)
    losses: Floats | None = None
    if test.encoded is not None:
        pieces = len(test.encoded.pieces)
        work = loss_work(test.encoded, spec, outputs.tokenizer, evaluation.batch_size)
        found, _ = outputs.of(work, lambda done: progress("perplexity", done, pieces))
        losses = losses_of_rows(test.encoded, found)
        _refuse_diverged(losses, test.encoded.tokens)
        if "loss" in evaluation.metrics:
            metrics["loss"] = mean_score(losses, test.encoded.tokens)
        if "perplexity" in evaluation.metrics:
            metrics["perplexity"] = perplexity(losses, test.encoded.tokens)
    if not test.prompts:
        return ModelScores(metrics, losses)
    likelihoods: Floats | None = None
    if "divergence" in evaluation.metrics:
        drawn = drawn or policy.draw(outputs, test.prompts, spec, progress)
        likelihoods = policy.likelihoods(outputs, drawn, spec)
    if (_COMPARISONS.keys() | policy.OF_ANSWERS).isdisjoint(evaluation.metrics):
        return ModelScores(metrics, losses, drawn=drawn, likelihoods=likelihoods)
    answers = outputs.answers(
        test.prompts,
        evaluation.max_new_tokens,
        evaluation.batch_size,
        lambda done: progress("answers", done, test.rows),
    )
    for name, compare in _COMPARISONS.items():
        if name in evaluation.metrics:
            metrics[name] = compare_answers(compare, answers.texts, [text["reference"] for text in test.texts])
    if "answerTokens" in evaluation.metrics:
        metrics["answerTokens"] = policy.answer_tokens(answers)
    return ModelScores(metrics, losses, answers, drawn=drawn, likelihoods=likelihoods)


def compare_policies(
    tuned: ModelScores,
    base: ModelScores | None,
    test: TestSet,
    spec: FineTuneJobSpec,
    resolver: Resolver,
    open_outputs: policy.OpenOutputs,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress,
) -> None:
    """Adds to the metrics of both models those that need more than one model: the reward's own, or each other.

    Raises:
        InputError: a reward model cannot be loaded or gives what is no number.
    """
    assert spec.evaluation is not None
    asked = spec.evaluation.metrics
    if not policy.BY_REWARD.isdisjoint(asked):
        scored = [tuned, *([base] if base else [])]
        answers = [model.answers for model in scored if model.answers is not None]
        references = [text.get("reference", "") for text in test.texts]
        earned = policy.rewards(answers, test.prompts, references, spec, resolver, open_outputs, tokenizer, progress)
        for model, scores in zip(scored, earned, strict=True):
            model.metrics["reward"] = scores
        if base is not None and "winRate" in asked:
            tuned.metrics["winRate"] = policy.wins(*earned)
    if tuned.drawn is not None and tuned.likelihoods is not None and base is not None and base.likelihoods is not None:
        tuned.metrics["divergence"] = policy.divergence(tuned.drawn, tuned.likelihoods, base.likelihoods, test.rows)


def score_texts(metric: str, answers: Sequence[str | None], references: Sequence[str]) -> RowScores | None:
    """Answers from wherever beside their references; None where the metric is no comparison of texts."""
    compare = _COMPARISONS.get(cast(MetricName, metric))
    return compare_answers(compare, answers, references) if compare is not None else None


def compare_answers(
    compare: Callable[[str, str], float], answers: Sequence[str | None], references: Sequence[str]
) -> RowScores:
    """A score for each row; where the model could not answer it is 0, even if nothing was the right answer."""
    scores = [0.0 if a is None else compare(a, r) for a, r in zip(answers, references, strict=True)]
    return mean_score(np.array(scores))


def _refuse_diverged(losses: NDArray[np.float64], tokens: NDArray[np.float64]) -> None:
    with np.errstate(invalid="ignore"):
        bad = ~(losses <= _LARGEST_LOSS * tokens)  # NaN is not smaller either
    if bad.any():
        row = int(bad.argmax())
        raise LossDivergedError(f"{int(bad.sum())} test rows have a loss that is no number, the first is row {row + 1}")
