"""Scores one model on the test rows, row by row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.metric import OF_ANSWERS, MetricName
from tunesmith.data.encode import encode_prompts, prompt_of, response_of, text_of
from tunesmith.data.rows import Row
from tunesmith.evaluation import policy
from tunesmith.evaluation.domains import PLACE as DOMAINS
from tunesmith.evaluation.domains import domains_of
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.harness import Harness
from tunesmith.evaluation.judge import judge_answers
from tunesmith.evaluation.loss import TestRows, encode_test, loss_work, losses_of_rows
from tunesmith.evaluation.outputs import Outputs
from tunesmith.evaluation.pairs import TestPairs, by_prompt, pair_scores, pair_work, preferred, read_test_pairs
from tunesmith.evaluation.policy import Drawn
from tunesmith.evaluation.scorers import Scorers
from tunesmith.evaluation.statistics import Floats, RowScores, mean_score, perplexity
from tunesmith.sources import Resolver
from tunesmith.training.failures import LossDivergedError

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""

_OF_LOSSES: frozenset[MetricName] = frozenset({"loss", "perplexity"})
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
    domains: list[str] = field(default_factory=list)
    """Of each row, where there are any."""

    @property
    def references(self) -> list[str]:
        """Of each row; empty where it has none."""
        return [text.get("reference", "") for text in self.texts]


@dataclass(frozen=True)
class ModelScores:
    """One model on all test rows."""

    metrics: dict[str, RowScores]
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
    harness: Harness = field(default_factory=Harness)
    """Tasks of lm-evaluation-harness."""


def read_test_set(
    rows: Sequence[Row], spec: FineTuneJobSpec, evaluation: EvaluationSpec, tokenizer: PreTrainedTokenizerBase
) -> TestSet:
    """Tokenizes test rows for the metrics that are asked for.

    Raises:
        InputError: a column is missing, or no row has anything to predict.
    """
    if spec.objective.reward is not None:
        if evaluation.domain_column is not None:
            raise InputError(Problem("goes with loss and perplexity, which a reward model has not; drop it", DOMAINS))
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
    asks_answers = _compares_answers(evaluation) or "divergence" in evaluation.metrics
    asks_losses = evaluation.domain_column is not None or not _OF_LOSSES.isdisjoint(evaluation.metrics)
    return TestSet(
        rows=len(rows),
        texts=texts,
        encoded=encode_test(rows, spec, tokenizer) if asks_losses else None,
        prompts=encode_prompts([text["prompt"] for text in texts], spec, tokenizer) if asks_answers else [],
        domains=domains_of(rows, evaluation.domain_column) if evaluation.domain_column is not None else [],
    )


def _compares_answers(evaluation: EvaluationSpec) -> bool:
    return bool(evaluation.own) or not {*OF_ANSWERS, *policy.OF_ANSWERS}.isdisjoint(evaluation.metrics)


def _has_reference(row: Row, spec: FineTuneJobSpec) -> bool:
    """Whether a row's response is there, or must be."""
    ppo, evaluation = spec.objective.ppo, spec.evaluation
    if ppo is None or evaluation is None or spec.dataset.columns.response in row:
        return True
    return bool(evaluation.own) or policy.needs_references(ppo, evaluation.metrics)


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
    metrics: dict[str, RowScores] = {}
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
    if not _compares_answers(evaluation):
        return ModelScores(metrics, losses, drawn=drawn, likelihoods=likelihoods)
    answers = outputs.answers(
        test.prompts,
        evaluation.max_new_tokens,
        evaluation.batch_size,
        lambda done: progress("answers", done, test.rows),
    )
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
        earned = policy.rewards(
            answers, test.prompts, test.references, spec, resolver, open_outputs, tokenizer, progress
        )
        for model, scores in zip(scored, earned, strict=True):
            model.metrics["reward"] = scores
        if base is not None and "winRate" in asked:
            tuned.metrics["winRate"] = policy.wins(*earned)
    if tuned.drawn is not None and tuned.likelihoods is not None and base is not None and base.likelihoods is not None:
        tuned.metrics["divergence"] = policy.divergence(tuned.drawn, tuned.likelihoods, base.likelihoods, test.rows)


def compare_answers(
    models: Sequence[ModelScores],
    test: TestSet,
    spec: FineTuneJobSpec,
    scorers: Scorers,
    resolver: Resolver,
    open_outputs: policy.OpenOutputs,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress,
) -> None:
    """Adds to the metrics of models those that judge their answers, beside references or by a reward model.

    Raises:
        InputError: a model that judges cannot be loaded, or an own metric fails.
    """
    assert spec.evaluation is not None
    answering = [(model, model.answers) for model in models if model.answers is not None]
    for model, answers in answering:
        for name in scorers.names:
            scores = scorers.rows(name, answers.texts, test.references)
            assert scores is not None
            model.metrics[name] = scores
    if "judge" in spec.evaluation.metrics:
        prompts = [text["prompt"] for text in test.texts]
        given = [answers for _, answers in answering]
        judged = judge_answers(given, prompts, spec, resolver, open_outputs, tokenizer, progress)
        for (model, _), scores in zip(answering, judged, strict=True):
            model.metrics["judge"] = scores


def _refuse_diverged(losses: NDArray[np.float64], tokens: NDArray[np.float64]) -> None:
    with np.errstate(invalid="ignore"):
        bad = ~(losses <= _LARGEST_LOSS * tokens)  # NaN is not smaller either
    if bad.any():
        row = int(bad.argmax())
        raise LossDivergedError(f"{int(bad.sum())} test rows have a loss that is no number, the first is row {row + 1}")
