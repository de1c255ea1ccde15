"""Conversations: which tokens of them the assistant says, and so learns.

A chat template is a program, so that what is learned cannot be read off its text. It is found by rendering: what the
template makes of the messages before a turn, with the generation prompt, is where the assistant starts to speak; what
it makes of the messages up to that turn is where it has ended. Each such segment is tokenized on its own, so that
training sees a prompt's tokens exactly as generation does.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tunesmith.api.load import InputError, Problem
from tunesmith.data.mask import special_tokens
from tunesmith.data.rows import Row
from tunesmith.data.tokenized import TokenizedRows, join_rows

PLACE = "spec.dataset.columns.messages"
MODEL = "spec.model.source"
ROLES = ("system", "developer", "user", "assistant", "tool")

Message = dict[str, Any]


@dataclass(frozen=True)
class Segment:
    """A part of a rendered conversation."""

    text: str
    spoken: bool
    """Whether the assistant says it."""


def messages_of(row: Row, column: str) -> list[Message]:
    """A row's conversation, up to the assistant's last turn.

    Raises:
        InputError: it is none; names the row.
    """
    if column not in row:
        listing = ", ".join(sorted(row))
        raise InputError(Problem(f"there is no column {column!r}; the data has: {listing}", PLACE))
    messages = row[column]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _refused(row, f"{column!r} should be a list of objects with role and content")
    for number, message in enumerate(messages, start=1):
        if message.get("role") not in ROLES:
            known = ", ".join(ROLES)
            raise _refused(row, f"message {number} has the role {message.get('role')!r}; known are {known}")
        if not isinstance(message.get("content"), str) and not message.get("tool_calls"):
            raise _refused(row, f"message {number} has no text as its content")
    turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns:
        raise _refused(row, "there is no turn of the assistant to learn from")
    # a column of Parquet has every key in each message, most of them null
    return [{key: value for key, value in m.items() if value is not None} for m in messages[: turns[-1] + 1]]


def prompt_and_reference(row: Row, column: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """All that is said before the assistant's last turn, rendered, and that turn."""
    *before, last = messages_of(row, column)
    return _render(before, row, tokenizer, prompt=True), str(last.get("content") or "")


def encode_chat(rows: Sequence[Row], column: str, limit: int, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Tokens of conversations; learned is every turn of the assistant with the token that ends it, and nothing else.

    A conversation over `limit` tokens loses its end; one of which nothing is left to learn is dropped. Where a template
    shows earlier turns otherwise than they were said (without their reasoning, say), a conversation becomes one row for
    each turn, so that each is still learned from what generation would see.

    Raises:
        InputError: a row is no conversation, or the template refuses it or does not end turns.
    """
    special = set(special_tokens(tokenizer))
    encoded, truncated, dropped = [], 0, 0
    for row in rows:
        for segments in conversations(messages_of(row, column), row, tokenizer):
            tokens, learned = _tokens(segments, special, tokenizer)
            if not any(learned[1:limit]):
                dropped += 1
                continue
            truncated += len(tokens) > limit
            encoded.append((tokens[:limit], learned[:limit]))
    return join_rows(encoded, truncated, dropped)


def conversations(messages: Sequence[Message], row: Row, tokenizer: PreTrainedTokenizerBase) -> list[list[Segment]]:
    """What is trained on of a conversation: the whole of it, or a part for each turn, as the template allows."""
    turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    pairs = []
    for turn in turns:
        prompt = _render(messages[:turn], row, tokenizer, prompt=True)
        said = _render(messages[: turn + 1], row, tokenizer, prompt=False)
        if not said.startswith(prompt):
            message = "its chat template shows the assistant's turns otherwise than it asks for them, so that what is "
            raise InputError(Problem(message + "learned would not be what is generated; choose another", MODEL))
        pairs.append((prompt, said))
    whole: list[Segment] = []
    done = ""
    for prompt, said in pairs:
        if not prompt.startswith(done):
            return [[Segment(prompt, False), Segment(said[len(prompt) :], True)] for prompt, said in pairs]
        whole += [Segment(prompt[len(done) :], False), Segment(said[len(prompt) :], True)]
        done = said
    return [whole]


def _tokens(
    segments: Sequence[Segment], special: set[int], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[bool]]:
    """The tokens of a conversation and the mask of those that are learned: what the assistant says up to the token that
    ends its turn; what the template puts after that (a newline, often) is not said."""
    tokens: list[int] = []
    learned: list[bool] = []
    for segment, part in zip(segments, _tokenize(segments, tokenizer), strict=True):
        end = len(part)
        while segment.spoken and end and part[end - 1] not in special:
            end -= 1
        if segment.spoken and end == 0:
            message = "its chat template ends the assistant's turns without a special token, so that generation could "
            raise InputError(Problem(message + "not stop there; choose another", MODEL))
        tokens += part
        learned += [segment.spoken and place < end for place in range(len(part))]
    return tokens, learned


def _tokenize(segments: Sequence[Segment], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    yield from tokenizer([segment.text for segment in segments], add_special_tokens=False)["input_ids"]


def _render(messages: Sequence[Message], row: Row, tokenizer: PreTrainedTokenizerBase, *, prompt: bool) -> str:
    if tokenizer.chat_template is None:
        raise InputError(Problem("its tokenizer has no chat template, which conversations need; choose another", MODEL))
    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt))
    except TemplateError as error:
        raise _refused(row, f"the chat template refuses it: {error}") from None


def _refused(row: Row, reason: str) -> InputError:
    start = json.dumps(row, default=str, ensure_ascii=False)[:100]
    return InputError(Problem(f"{reason}, in the row that starts {start}", PLACE))
