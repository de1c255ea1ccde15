"""Answers: greedy decoding in batches with a key-value cache, by decoders and by encoder-decoders.

A row leaves its batch when its answer has ended, and one that waits takes its place: a long answer does not keep others
computing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.evaluation.work import Work
from tunesmith.models.decode import Decoding, EncodedDecoding
from tunesmith.models.prompts import bare_model, virtual_tokens
from tunesmith.training.failures import is_out_of_memory

_WORTH_CHANGING = 0.875
"""Rows that have ended leave the batch, and others join, when no more than this share of it still goes on."""
_TAIL = 8
"""Tokens more than a text to stop at can have that are looked at for it: a token may be a part of a letter."""


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


@dataclass(frozen=True)
class Written:
    """One answer."""

    tokens: list[int]
    """Without the one that ends it."""
    end: int | None
    """The token that ends it; None where it has no end."""


Keep = Callable[[dict[int, Written]], None]
"""Is given answers by the numbers of their prompts as soon as they are there."""


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
    found: dict[int, Written] = {}

    def keep(some: dict[int, Written]) -> None:
        found.update(some)
        progress(len(found))

    size = write_answers(model, tokenizer, prompts, max_new_tokens, batch_size, keep)
    return answers_of(found, len(prompts), tokenizer, size)


def answers_of(found: dict[int, Written], prompts: int, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> Answers:
    """Answers as texts.

    Args:
        found: those that were written, by the numbers of their prompts.
        prompts: how many there are.
        tokenizer: decodes; special tokens are left out of the texts.
        batch_size: rows at once, after memory ran out.
    """
    tokens = [found[row].tokens if row in found else [] for row in range(prompts)]
    decoded = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Answers(
        texts=[decoded[row] if row in found else None for row in range(prompts)],
        unfinished=sum(written.end is None for written in found.values()),
        batch_size=batch_size,
        tokens=tokens,
        ends=[found[row].end if row in found else None for row in range(prompts)],
    )


def answer_work(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    size: int,
    until: Sequence[Sequence[str]] | None = None,
) -> Work:
    """Answering prompts; the output of each is its tokens and the one that ends it, as in `Written`."""
    return Work(
        name="answers",
        items=sorted((row for row, prompt in enumerate(prompts) if prompt), key=lambda row: -len(prompts[row])),
        size=size,
        facts=[list(map(list, prompts)), max_new_tokens, until, tokenizer.eos_token_id, tokenizer.pad_token_id],
        do=partial(_answer, tokenizer, prompts, max_new_tokens, until),
    )


def _answer(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    until: Sequence[Sequence[str]] | None,
    model: PreTrainedModel,
    rows: list[int],
    size: int,
    keep: Callable[[dict[int, Any]], None],
) -> int:
    def number(found: dict[int, Written]) -> None:
        keep({rows[place]: [written.tokens, written.end] for place, written in found.items()})

    chosen = [prompts[row] for row in rows]
    ends = None if until is None else [until[row] for row in rows]
    return write_answers(model, tokenizer, chosen, max_new_tokens, size, number, ends)


@torch.inference_mode()
def write_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    keep: Keep,
    until: Sequence[Sequence[str]] | None = None,
) -> int:
    """What `generate_answers` does, answer by answer.

    Args:
        model, tokenizer, prompts, max_new_tokens, batch_size: as there.
        keep: is given each answer as soon as it is written; prompts without room for one are left out.
        until: texts that end an answer of each prompt too; they belong to it.

    Returns:
        The number of rows at once that worked, after memory ran out.
    """
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None:
        context -= virtual_tokens(model)
    separate = bool(model.config.is_encoder_decoder)
    room = [_room(max_new_tokens, context, len(prompt), separate) for prompt in prompts]
    # rows of like length together: little padding, and the longest first, where memory runs out soonest
    waiting = sorted(
        (row for row, prompt in enumerate(prompts) if prompt and room[row] > 0), key=lambda row: -len(prompts[row])
    )
    desk = _Desk(model, tokenizer, prompts, room, until, keep)
    while waiting:
        size = min(batch_size, len(waiting))
        left = _attempt(desk, waiting, batch_size)
        if left:  # memory ran out
            batch_size = size // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        waiting = left
    return batch_size


def _attempt(desk: "_Desk", waiting: list[int], size: int) -> list[int]:
    """Writes answers until all are there, or memory runs out; the batch is gone by the time this returns.

    Returns:
        The rows whose answers are not there, which must be fewer at once.
    """
    try:
        desk.write(waiting, size)
    except (RuntimeError, MemoryError) as error:
        left = [row for row in waiting if row not in desk.done]
        if min(size, len(left)) == 1 or not is_out_of_memory(error):
            raise
        return left
    return []


@dataclass
class _Desk:
    """Where answers are written."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[Sequence[int]]
    room: list[int]
    """Tokens of the longest answer to each prompt."""
    until: Sequence[Sequence[str]] | None
    keep: Keep
    done: set[int] = field(default_factory=set)

    def write(self, rows: Sequence[int], size: int) -> None:
        """Answers to some prompts in this order, at most `size` at once."""
        pad = int(self.tokenizer.pad_token_id)
        stops = stop_tokens(bare_model(self.model).generation_config, self.tokenizer)
        separate = bool(self.model.config.is_encoder_decoder)
        batch = EncodedDecoding(self.model, pad) if separate else Decoding(self.model, pad)
        waiting = list(reversed(rows))
        present: list[int] = []
        tokens: dict[int, list[int]] = {}
        following = torch.zeros(0, dtype=torch.long, device=bare_model(self.model).device)
        while True:
            going = [place for place, row in enumerate(present) if row not in self.done]
            free = size - len(going)
            joining = waiting and (not going or (batch.joins and free >= (1 - _WORTH_CHANGING) * size))
            if not going and not joining:
                return
            if not going:
                batch, present = (EncodedDecoding(self.model, pad) if separate else Decoding(self.model, pad)), []
                following = following[:0]
            elif len(going) < len(present) and (joining or len(going) <= _WORTH_CHANGING * len(present)):
                places = torch.tensor(going, device=following.device)
                batch.keep(places)
                present, following = [present[place] for place in going], following[places]
            if len(present):
                following = batch.advance(following).argmax(dim=-1)
            if joining:
                new = [waiting.pop() for _ in range(min(free, len(waiting)))]
                logits = batch.add([self.prompts[row] for row in new])
                following = torch.cat([following, logits.argmax(dim=-1)])
                present += new
            self._take(present, following, tokens, stops)

    def _take(self, present: list[int], following: Tensor, tokens: dict[int, list[int]], stops: set[int]) -> None:
        """Appends each row's next token, and keeps the answers that end with it."""
        ended: dict[int, Written] = {}
        for row, token in zip(present, following.tolist(), strict=True):
            if row in self.done:
                continue
            written = tokens.setdefault(row, [])
            if token in stops:
                ended[row] = Written(written, token)
                continue
            written.append(token)
            if self._is_over(row, written):
                ended[row] = Written(written, None)
        if ended:
            self.done.update(ended)
            self.keep(ended)

    def _is_over(self, row: int, written: list[int]) -> bool:
        """Whether an answer has no room left, or has come to a text that ends it."""
        if len(written) == self.room[row]:
            return True
        if self.until is None or not self.until[row]:
            return False
        tail = written[-(max(map(len, self.until[row])) + _TAIL) :]
        text = self.tokenizer.decode(tail, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return any(end in text for end in self.until[row])


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
