"""After a reward model is trained, its scores are shifted and scaled so that the answers of the model that training
started from have mean 0 and variance 1 (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).

The loss sees differences of scores only, so that where zero is, and how large a score may become, is chance.
"""

import hashlib
import heapq
import logging
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.pod import RunFolder
from tunesmith.data.encode import encode_prompts, prompt_of
from tunesmith.data.rows import Row
from tunesmith.evaluation.generate import stop_tokens
from tunesmith.models.load import ModelLocation, load_model, locate
from tunesmith.models.reward import Centring, load_reward_model, score_texts
from tunesmith.rlhf.sample import Sampling, draws_of, sample_answers
from tunesmith.sources import Resolver

log = logging.getLogger(__name__)

_BATCH = 32
_SMALLEST = 1e-6
"""Scores that differ by no more are all the same: there is nothing to scale."""


def centre(
    spec: FineTuneJobSpec,
    resolver: Resolver,
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Row],
    folder: RunFolder,
) -> None:
    """Measures the scores of the starting model's answers, and leaves reward.json beside the reward model.

    Args:
        spec: with objective.reward.
        resolver: finds the starting model.
        tokenizer: of both models.
        rows: to take prompts from.
        folder: of the run, with model/.
    """
    settings = spec.objective.reward
    assert settings is not None
    if settings.centring_prompts == 0:
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = draw_prompts((prompt_of(row, spec, tokenizer) for row in rows), settings.centring_prompts)
    limit = spec.training.max_length
    prompts = [prompt for prompt in encode_prompts(chosen, spec, tokenizer) if 0 < len(prompt) < limit]
    if not prompts:
        log.warning("scores are not centred: no prompt that was drawn leaves room within training.maxLength")
        return
    model = load_model(locate(spec.model, resolver), "auto").eval()
    model.to(device)
    texts = sample_texts(model, tokenizer, prompts, settings.centring_tokens, spec.training.seed)
    texts = [text[:limit] for text in texts]  # as pairs are cut
    del model
    reward = load_reward_model(ModelLocation(str(folder.model)))
    reward.model.to(device)
    parts = [score_texts(reward.model, texts[i : i + _BATCH], tokenizer) for i in range(0, len(texts), _BATCH)]
    centring = centring_of(torch.cat(parts).double())
    for target in (folder.model, folder.adapter):
        if target.exists():
            centring.write(target)
    log.info("scores of %d answers: mean %.4f, standard deviation %.4f", len(texts), centring.mean, centring.std)


def centring_of(scores: Tensor) -> Centring:
    """What gives scores mean 0 and variance 1; where all are the same, they are shifted only.

    Args:
        scores: fp64 [answers].
    """
    mean, std = float(scores.mean()), float(scores.std(correction=0))
    gain = 1 / std if std > _SMALLEST else 1.0
    return Centring(gain=gain, bias=-mean * gain, answers=len(scores), mean=mean, std=std)


def draw_prompts(prompts: Iterable[str], count: int) -> list[str]:
    """So many different ones, chosen by their hash: the same whatever the order, and few of many need memory."""
    hashes = ((hashlib.sha256(prompt.encode()).digest(), prompt) for prompt in prompts)
    kept: dict[bytes, str] = {}
    heap: list[bytes] = []  # the largest hash first
    for digest, prompt in hashes:
        inverse = bytes(255 - byte for byte in digest)
        if inverse in kept:
            continue
        if len(heap) < count:
            heapq.heappush(heap, inverse)
        elif inverse > heap[0]:
            del kept[heapq.heapreplace(heap, inverse)]
        else:
            continue
        kept[inverse] = prompt
    return [kept[inverse] for inverse in sorted(kept)]


def sample_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    seed: int,
) -> list[list[int]]:
    """Prompts with answers that are sampled from a model: at temperature 1, from the whole vocabulary.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: its end-of-sequence token ends an answer, and stands in it.
        prompts: tokens of each.
        max_new_tokens: the longest answer.
        seed: of the sampling; what a prompt draws follows from its place among the others too.

    Returns:
        In the order of the prompts.
    """
    end = int(tokenizer.eos_token_id)
    stops = frozenset(stop_tokens(model.generation_config, tokenizer))
    sampling = Sampling(stops, int(tokenizer.pad_token_id), max_new_tokens, temperature=1.0)
    texts: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        draws = np.stack([draws_of(seed, 0, row, max_new_tokens) for row in rows])
        answers = sample_answers(model, [prompts[row] for row in rows], draws, sampling)
        for row, answer in zip(rows, answers, strict=True):
            texts[row] = [*prompts[row], *(end if token in stops else token for token in answer)]
    return texts
