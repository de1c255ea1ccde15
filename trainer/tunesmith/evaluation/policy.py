"""A tuned policy beside the model that it started from: what their answers earn, and how far they are apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.metric import OF_TEXTS, MetricName
from tunesmith.api.ppo import PPO
from tunesmith.data.collate import Collator
from tunesmith.data.examples import FIXED
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.evaluation.batches import in_batches
from tunesmith.evaluation.generate import Answers, stop_tokens
from tunesmith.evaluation.statistics import Floats, RowScores, mean_score
from tunesmith.models.load import locate_source
from tunesmith.models.reward import load_reward_model, refuse_other_tokenizer, score_texts
from tunesmith.rlhf.losses import log_probabilities
from tunesmith.rlhf.rewards import PLACE, Answer, decoded, rule_of, weighted
from tunesmith.rlhf.rollout import answered
from tunesmith.rlhf.sample import Sampling, draws_of, sample_answers
from tunesmith.sources import Resolver
from tunesmith.training.objective import next_token_logits

Progress = Callable[[str, int, int], None]

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


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    spec: FineTuneJobSpec,
    progress: Callable[[int], None],
) -> Drawn:
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
    stops = frozenset(stop_tokens(model.generation_config, tokenizer))
    sampling = Sampling(stops, int(tokenizer.pad_token_id), ppo.max_new_tokens, ppo.temperature)
    found: dict[int, list[int]] = {}

    def work(some: list[int]) -> None:
        numbers = np.stack([draws_of(spec.training.seed, FIXED + 1, row, ppo.max_new_tokens) for row in some])
        answers = sample_answers(model, [prompts[row] for row in some], numbers, sampling)
        found.update(zip(some, answers, strict=True))
        progress(len(found))

    in_batches(sorted(rows, key=lambda row: -len(prompts[row])), evaluation.batch_size, work)
    return Drawn(rows, answered([prompts[row] for row in rows], [found[row] for row in rows]))


@torch.inference_mode()
def likelihoods(model: PreTrainedModel, drawn: Drawn, collator: Collator, temperature: float, size: int) -> Floats:
    """How likely a model finds the drawn answers, at the temperature that they were drawn at.

    Args:
        model: in evaluation mode, on its device.
        drawn: the answers.
        collator: makes the batches, padded.
        temperature: divides the logits.
        size: answers at once; halved where memory runs out.

    Returns:
        Log-probabilities of whole answers, in nats; [answers].
    """
    found = np.zeros(len(drawn.rows))

    def work(places: list[int]) -> None:
        batch = collator.batch(drawn.texts, places, FIXED).to(model.device)
        chosen = log_probabilities(next_token_logits(model, batch), batch.targets, temperature)
        answer_of = batch.keep.nonzero()[:, 0].cpu().numpy()
        found[places] = np.bincount(answer_of, chosen.double().cpu().numpy(), minlength=len(places))

    in_batches(np.argsort(-drawn.texts.lengths, kind="stable").tolist(), size, work)
    return found


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
                term.model.source, place, whole, resolver, tokenizer, evaluation.batch_size, progress
            )
    ended = np.array([models[number].ends[row] is not None for number, row in cases], np.bool_)
    earned = weighted(ppo.reward, terms, ended, ppo.missing_end_penalty)
    which = np.array([number for number, _ in cases], np.int64)
    return [_at(_with_answer(answers), earned[which == number], len(prompts)) for number, answers in enumerate(models)]


def reward_scores(
    source: str,
    place: str,
    texts: Sequence[Sequence[int]],
    resolver: Resolver,
    tokenizer: PreTrainedTokenizerBase,
    size: int,
    progress: Progress,
) -> Floats:
    """What a reward model gives whole texts; it is gone from memory afterwards."""
    location = locate_source(source, resolver, place)
    refuse_other_tokenizer(tokenizer, location, place)
    reward = load_reward_model(location, place=place)
    model = reward.model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    found = np.zeros(len(texts))
    done = 0

    def work(some: list[int]) -> None:
        nonlocal done
        scores = score_texts(model, [texts[number] for number in some], tokenizer)
        found[some] = reward.centring.of(scores).double().numpy()
        done += len(some)
        progress(f"reward, {Path(location.name).name}", done, len(texts))

    in_batches(sorted(range(len(texts)), key=lambda number: -len(texts[number])), size, work)
    return found


def wins(tuned: RowScores, base: RowScores) -> RowScores:
    """1 where the tuned model's answer earns more than the base's, 0.5 where it earns the same, else 0."""
    ahead = np.sign(tuned.parts[:, 0] - base.parts[:, 0])
    return mean_score((ahead + 1) / 2 * tuned.used, tuned.used.astype(np.float64))


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
