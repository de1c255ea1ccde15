"""Answers: greedy decoding in batches with a key-value cache, by decoders and by encoder-decoders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.evaluation.batches import in_batches
from tunesmith.models.kind import start_token
from tunesmith.models.prompts import bare_model, continue_prompted, reads_embeddings, virtual_tokens


@dataclass(frozen=True)
class Answers:
    """A model's answers."""

    texts: list[str | None]
    """In the order of the prompts; None where there was no answering: the prompt has no token, or fills the context."""
    unfinished: int
    """Answers that ran into the limit before their end."""
    batch_size: int
    """Rows at once, after memory ran out."""
    tokens: list[list[int]]
    """Of each answer, without the one that ends it."""
    ends: list[int | None]
    """The token that ends each answer; None where it has no end."""

    def written(self, row: int) -> list[int]:
        """All tokens of an answer, the one that ends it included."""
        end = self.ends[row]
        return self.tokens[row] if end is None else [*self.tokens[row], end]


@torch.inference_mode()
def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> Answers:
    """The most likely next token again and again, up to an end-of-sequence token.

    Nothing of the model's own generation settings but its end-of-sequence tokens plays a part: no sampling, no
    penalties. An answer depends on its prompt alone, not on the batch (but for rounding in half precision): each stops
    after max_new_tokens or at the end of the model's context, whichever comes first.

    Args:
        model: a decoder or an encoder-decoder in evaluation mode, on its device.
        tokenizer: decodes; special tokens are left out of the texts.
        prompts: tokens of each row.
        max_new_tokens: the longest answer.
        batch_size: rows at once.
        progress: is told how many rows are done.
    """
    bare = bare_model(model)
    own = bare.generation_config
    stops = stop_tokens(own, tokenizer)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    separate = bool(model.config.is_encoder_decoder)
    if context is not None:
        context -= virtual_tokens(model)
    room = [_room(max_new_tokens, context, len(prompt), separate) for prompt in prompts]
    answerable = [row for row, prompt in enumerate(prompts) if prompt and room[row] > 0]
    tokens: list[list[int]] = [[] for _ in prompts]
    ends: list[int | None] = [None] * len(prompts)
    finished: set[int] = set()
    unfinished = 0

    def answer(rows: list[int]) -> None:
        """Goes on with each row until the first of them has no room left; the others come again."""
        nonlocal unfinished
        limit = min(room[row] - len(tokens[row]) for row in rows)
        if separate:
            parts = _write(model, [prompts[row] for row in rows], limit, pad)
        else:
            parts = _continue(model, [[*prompts[row], *tokens[row]] for row in rows], limit, pad)
        for row, part in zip(rows, parts, strict=True):
            new, stopped = until_stop(part, stops)
            tokens[row] += new
            full = len(tokens[row]) == room[row]
            if stopped or full:
                finished.add(row)
                unfinished += not stopped
                ends[row] = part[len(new)] if stopped else None
        progress(len(finished))

    pad = int(tokenizer.pad_token_id)
    bare.generation_config = GenerationConfig(
        do_sample=False,
        use_cache=True,
        eos_token_id=sorted(stops),
        pad_token_id=pad,
        decoder_start_token_id=start_token(bare) if separate else None,
    )
    try:
        while waiting := [row for row in answerable if row not in finished]:
            # rows of like length together: little padding, and the longest first, where memory runs out soonest
            waiting.sort(key=lambda row: -(len(prompts[row]) + len(tokens[row])))
            batch_size = in_batches(waiting, batch_size, answer)
    finally:
        bare.generation_config = own
    decoded = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    texts = [decoded[row] if row in finished else None for row in range(len(prompts))]
    return Answers(texts, unfinished, batch_size, tokens, ends)


def _room(max_new_tokens: int, context: int | None, prompt: int, separate: bool) -> int:
    """How long an answer may get: a decoder has room for prompt and answer together, an encoder-decoder for each, with
    one place of the answer's for the token that it starts from."""
    if context is None:
        return max_new_tokens
    if separate:
        return min(max_new_tokens, context - 1) if prompt <= context else 0
    return min(max_new_tokens, context - prompt)


def stop_tokens(own: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end an answer: the tokenizer's end of sequence, which training teaches, and the model's own."""
    given = own.eos_token_id
    listed = given if isinstance(given, list) else [] if given is None else [given]
    return {int(tokenizer.eos_token_id), *map(int, listed)}


def until_stop(tokens: Sequence[int], stops: set[int]) -> tuple[list[int], bool]:
    """The tokens before the first that ends an answer, and whether there is one."""
    end = next((index for index, token in enumerate(tokens) if token in stops), None)
    return list(tokens[:end]), end is not None


def _continue(model: PreTrainedModel, prompts: Sequence[Sequence[int]], limit: int, pad: int) -> list[list[int]]:
    """Up to `limit` new tokens of each row; rows that end early are padded.

    Padding is on the left, so that every row's next token comes at the same place; the mask hides it, and positions
    are counted from the first real token.
    """
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    ids, mask = ids.to(model.device), mask.to(model.device)
    if reads_embeddings(model):
        answers: list[list[int]] = continue_prompted(model, ids, mask, limit).tolist()
        return answers
    output = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=limit)
    new: list[list[int]] = output[:, width:].tolist()
    return new


def _write(model: PreTrainedModel, sources: Sequence[Sequence[int]], limit: int, pad: int) -> list[list[int]]:
    """Up to `limit` tokens of an encoder-decoder for each source; rows that end early are padded."""
    width = max(map(len, sources))
    ids = torch.tensor([list(source) + [pad] * (width - len(source)) for source in sources])
    mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in sources])
    output = model.generate(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=limit)
    new: list[list[int]] = output[:, 1:].tolist()
    return new
