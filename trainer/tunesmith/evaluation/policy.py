"""A tuned policy beside the model that it started from: what their answers earn, and how far they are apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.metric import OF_TEXTS, MetricName
from tunesmith.api.ppo import PPO
from tunesmith.data.examples import FIXED
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.evaluation.batches import in_batches
from tunesmith.evaluation.generate import Answers, stop_tokens
from tunesmith.evaluation.outputs import Outputs
from tunesmith.evaluation.statistics import Floats, RowScores, mean_score, mean_share
from tunesmith.evaluation.work import Keep, Source, Work, digest, fingerprint
from tunesmith.models.load import ModelLocation, locate_source, refuse_other_tokenizer
from tunesmith.models.reward import Centring, load_reward_model, score_texts
from tunesmith.rlhf.losses import log_probabilities
from tunesmith.rlhf.rewards import PLACE, Answer, decoded, rule_of, weighted
from tunesmith.rlhf.rollout import answered
from tunesmith.rlhf.sample import Sampling, draws_of, sample_answers
from tunesmith.sources import Resolver
from tunesmith.training.objective import collator_of, next_token_logits

Progress = Callable[[str, int, int], None]
OpenOutputs = Callable[[Source], Outputs]
"""What is kept of a model, and made where it is missing."""

BY_REWARD: frozenset[MetricName] = frozenset({"reward", "winRate"})
OF_ANSWERS: frozenset[MetricName] = BY_REWARD | {"answerTokens"}
"""What needs the most likely answers; divergence needs answers that are drawn."""


@dataclass(frozen=True)
class Drawn:
    """One answer to each prompt, drawn from the tuned model as training draws them."""

    rows: list[int]
    """Of the test set; prompts without room for an answer are left out."""
    texts: TokenizedRows
    """Prompt and answer of each; the learned tokens are those of the answer."""


def needs_references(ppo: PPO, metrics: Sequence[MetricName]) -> bool:
    """Whether something compares answers with the right ones."""
    return not set(OF_TEXTS).isdisjoint(metrics) or (ppo.compares and not BY_REWARD.isdisjoint(metrics))


def draw(outputs: Outputs, prompts: Sequence[Sequence[int]], spec: FineTuneJobSpec, progress: Progress) -> Drawn:
    """Draws an answer to each prompt, always with the same numbers.

    The most likely answers would not do: the mean of a log-ratio is a divergence only over samples.

    Raises:
        InputError: no prompt leaves room for an answer.
    """
    ppo, evaluation = spec.objective.ppo, spec.evaluation
    assert ppo is not None
    assert evaluation is not None
    room = spec.training.max_length - ppo.max_new_tokens
    rows = [row for row, prompt in enumerate(prompts) if 0 < len(prompt) <= room]
    if not rows:
        message = f"no test prompt has at most {room} tokens, so that an answer of ppo.maxNewTokens has room; raise it"
        raise InputError(Problem(message, "spec.training.maxLength"))
    seed, pad = spec.training.seed, outputs.tokenizer.pad_token_id
    work = Work(
        name="drawn",
        items=sorted(rows, key=lambda row: -len(prompts[row])),
        size=evaluation.batch_size,
        facts=[[list(prompts[row]) for row in rows], rows, ppo.max_new_tokens, ppo.temperature, seed, pad],
        do=partial(_draw, prompts, outputs.tokenizer, ppo.max_new_tokens, ppo.temperature, seed),
    )
    found, _ = outputs.of(work, lambda done: progress("drawing", done, len(prompts)))
    return Drawn(rows, answered([prompts[row] for row in rows], [found[row] for row in rows]))


def _draw(
    prompts: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerBase,
    longest: int,
    temperature: float,
    seed: int,
    model: PreTrainedModel,
    rows: list[int],
    size: int,
    keep: Keep,
) -> int:
    stops = frozenset(stop_tokens(model.generation_config, tokenizer))
    sampling = Sampling(stops, int(tokenizer.pad_token_id), longest, temperature)

    def work(some: list[int]) -> None:
        numbers = np.stack([draws_of(seed, FIXED + 1, row, longest) for row in some])
        answers = sample_answers(model, [prompts[row] for row in some], numbers, sampling)
        keep(dict(zip(some, answers, strict=True)))

    return in_batches(rows, size, work)


def likelihoods(outputs: Outputs, drawn: Drawn, spec: FineTuneJobSpec) -> Floats:
    """How likely a model finds the drawn answers, at the temperature that they were drawn at.

    Returns:
        Log-probabilities of whole answers, in nats; [answers].
    """
    ppo, evaluation = spec.objective.ppo, spec.evaluation
    assert ppo is not None
    assert evaluation is not None
    texts = drawn.texts
    work = Work(
        name="likelihoods",
        items=np.argsort(-texts.lengths, kind="stable").tolist(),
        size=evaluation.batch_size,
        facts=[texts.tokens, texts.learned, texts.offsets, ppo.temperature, outputs.tokenizer.pad_token_id],
        do=partial(_likelihoods, drawn, spec, outputs.tokenizer, ppo.temperature),
        row_of=drawn.rows,
    )
    found, _ = outputs.of(work)
    return np.array([found[answer] for answer in range(len(drawn.rows))], np.float64)


@torch.inference_mode()
def _likelihoods(
    drawn: Drawn,
    spec: FineTuneJobSpec,
    tokenizer: PreTrainedTokenizerBase,
    temperature: float,
    model: PreTrainedModel,
    answers: list[int],
    size: int,
    keep: Keep,
) -> int:
    collator = collator_of(spec, model, tokenizer, packed=False, half=model.dtype.itemsize == 2)

    def work(places: list[int]) -> None:
        batch = collator.batch(drawn.texts, places, FIXED).to(model.device)
        chosen = log_probabilities(next_token_logits(model, batch), batch.targets, temperature)
        answer_of = batch.keep.nonzero()[:, 0].cpu().numpy()
        sums = np.bincount(answer_of, chosen.double().cpu().numpy(), minlength=len(places))
        keep(dict(zip(places, sums.tolist(), strict=True)))

    return in_batches(answers, size, work)


def divergence(drawn: Drawn, tuned: Floats, base: Floats, rows: int) -> RowScores:
    """The k1 estimate of how far the tuned model has gone from its base, in nats of a whole answer.

    Args:
        drawn: answers of the tuned model.
        tuned: their log-probabilities under it; [answers].
        base: the same under the base.
        rows: of the test set.
    """
    return _at(drawn.rows, tuned - base, rows)


def answer_tokens(answers: Answers) -> RowScores:
    """The lengths of answers, the token that ends one included."""
    rows = _with_answer(answers)
    return _at(rows, np.array([len(answers.written(row)) for row in rows], np.float64), len(answers.texts))


def rewards(
    models: Sequence[Answers],
    prompts: Sequence[Sequence[int]],
    references: Sequence[str],
    spec: FineTuneJobSpec,
    resolver: Resolver,
    open_outputs: OpenOutputs,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress,
) -> list[RowScores]:
    """What the job's reward gives the answers of some models. Reward models are loaded one after the other.

    Args:
        models: the answers of each.
        prompts: tokens of each.
        references: the right answers; empty where there is none.
        spec: of the job.
        resolver: finds the reward models.
        open_outputs: of a reward model.
        tokenizer: of all models.
        progress: is told of each batch.

    Raises:
        InputError: a reward model cannot be loaded or gives what is no number, or nothing was answered.
    """
    ppo, evaluation = spec.objective.ppo, spec.evaluation
    assert ppo is not None
    assert evaluation is not None
    cases = [(number, row) for number, answers in enumerate(models) for row in _with_answer(answers)]
    written = [models[number].written(row) for number, row in cases]
    texts = decoded(tokenizer, written)
    seen = [
        Answer(text, references[row], len(tokens)) for text, (_, row), tokens in zip(texts, cases, written, strict=True)
    ]
    terms = np.zeros((len(ppo.reward), len(cases)))
    for index, term in enumerate(ppo.reward):
        rule = rule_of(term, index)
        if rule is not None:
            terms[index] = [rule(answer) for answer in seen]
        elif term.model is not None and term.model.source is not None:
            whole = [[*prompts[row], *tokens] for (_, row), tokens in zip(cases, written, strict=True)]
            place = f"{PLACE}[{index}].model.source"
            terms[index] = reward_scores(
                term.model.source,
                place,
                whole,
                [row for _, row in cases],
                resolver,
                open_outputs,
                tokenizer,
                evaluation.batch_size,
                progress,
            )
    ended = np.array([models[number].ends[row] is not None for number, row in cases], np.bool_)
    earned = weighted(ppo.reward, terms, ended, ppo.missing_end_penalty)
    which = np.array([number for number, _ in cases], np.int64)
    return [_at(_with_answer(answers), earned[which == number], len(prompts)) for number, answers in enumerate(models)]


def reward_scores(
    source: str,
    place: str,
    texts: Sequence[Sequence[int]],
    rows: Sequence[int],
    resolver: Resolver,
    open_outputs: OpenOutputs,
    tokenizer: PreTrainedTokenizerBase,
    size: int,
    progress: Progress,
) -> Floats:
    """What a reward model gives whole texts; it is gone from memory afterwards."""
    location = locate_source(source, resolver, place)
    refuse_other_tokenizer(tokenizer, location, place)
    centring = Centring.read(Path(location.name))
    identity = digest(fingerprint(location))
    outputs = open_outputs(Source(f"reward-{identity}", identity, partial(_reward_model, location, place)))
    work = Work(
        name="scores",
        items=sorted(range(len(texts)), key=lambda number: -len(texts[number])),
        size=size,
        facts=[[list(text) for text in texts], tokenizer.pad_token_id],
        do=partial(_score, texts, tokenizer),
        row_of=rows,
    )
    found, _ = outputs.of(work, lambda done: progress(f"reward, {Path(location.name).name}", done, len(texts)))
    scores = torch.tensor([found[number] for number in range(len(texts))])
    centred: Floats = centring.of(scores).double().numpy()
    return centred


def _reward_model(location: ModelLocation, place: str) -> PreTrainedModel:
    return load_reward_model(location, place=place).model


def _score(
    texts: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    numbers: list[int],
    size: int,
    keep: Keep,
) -> int:
    def work(some: list[int]) -> None:
        scores = score_texts(model, [texts[number] for number in some], tokenizer)
        keep(dict(zip(some, scores.tolist(), strict=True)))

    return in_batches(numbers, size, work)


def wins(tuned: RowScores, base: RowScores) -> RowScores:
    """1 where the tuned model's answer earns more than the base's, 0.5 where it earns the same, else 0."""
    ahead = np.sign(tuned.parts[:, 0] - base.parts[:, 0])
    return mean_share((ahead + 1) / 2 * tuned.used, tuned.used.astype(np.float64))


def _with_answer(answers: Answers) -> list[int]:
    rows = [row for row, text in enumerate(answers.texts) if text is not None]
    if not rows:
        message = "no prompt leaves room for an answer in the model's context; shorten them"
        raise InputError(Problem(message, "spec.dataset.test"))
    return rows


def _at(rows: Sequence[int], values: Floats, count: int) -> RowScores:
    """Scores of some rows; the others count nothing."""
    sums, weights = np.zeros(count), np.zeros(count)
    sums[list(rows)], weights[list(rows)] = values, 1
    return mean_score(sums, weights)
