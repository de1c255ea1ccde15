"""From rows to tokens: templates, truncation, and the mask of what the loss is computed on.

Label masks go by position, never by token id, so that a padding token that is also the end-of-sequence token is learnt.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunesmith.api.dataset import Columns
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.data.rows import Row

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_RESPONSE = "{response}"


@dataclass(frozen=True)
class TokenizedRows:
    """Rows as one array of tokens."""

    tokens: NDArray[np.int32]
    """All tokens of all rows, end to end; shape [tokens]."""
    learned: NDArray[np.bool_]
    """Which tokens the loss is computed on; shape [tokens]. The first token of a row never is."""
    offsets: NDArray[np.int64]
    """Where each row starts, and where the last one ends; shape [rows + 1]."""
    truncated: int = 0
    """Rows that were cut to the length limit."""
    dropped: int = 0
    """Rows that were left out, since nothing of them is left to learn from."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row; shape [rows]."""
        return np.diff(self.offsets)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Learned tokens of each row; shape [rows]."""
        return np.add.reduceat(self.learned.astype(np.int64), self.offsets[:-1]) if len(self) else np.zeros(0, np.int64)

    def row(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Tokens and mask of one row."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[span], self.learned[span]

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> "TokenizedRows":
        """These rows, in this order."""
        return _join([self.row(i) for i in indices], self.truncated, self.dropped)


def _join(rows: Sequence[tuple[Any, Any]], truncated: int, dropped: int) -> TokenizedRows:
    offsets = np.cumsum([0, *(len(tokens) for tokens, _ in rows)], dtype=np.int64)
    empty_tokens, empty_mask = np.zeros(0, np.int32), np.zeros(0, np.bool_)
    tokens = np.concatenate([empty_tokens, *(np.asarray(t, np.int32) for t, _ in rows)])
    learned = np.concatenate([empty_mask, *(np.asarray(m, np.bool_) for _, m in rows)])
    if len(tokens):
        learned[offsets[:-1]] = False  # nothing predicts a row's first token
    return TokenizedRows(tokens, learned, offsets, truncated, dropped)


def fill(template: str, row: Row, columns: Columns, place: str) -> str:
    """A template with a row's values; {text}, {prompt} and {response} stand for the columns that play these parts.

    Raises:
        InputError: the row has no such column, or nothing in it.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        column = columns.to_dict().get(name, name)
        if column in row and row[column] is None:
            start = json.dumps(row, default=str, ensure_ascii=False)[:100]
            raise InputError(Problem(f"column {column!r} is null in the row that starts {start}", place))
        if column not in row:
            listing = ", ".join(sorted(row))
            raise InputError(Problem(f"there is no column {column!r} for {{{name}}}; the data has: {listing}", place))
        return str(row[column])

    return _PLACEHOLDER.sub(value, template)


def prompt_of(row: Row, spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text before a row's response, for objective.instruction: what generation starts from."""
    assert spec.objective.instruction is not None
    columns, template = spec.dataset.columns, spec.objective.instruction.template
    if template is not None:
        return fill(template.removesuffix(_RESPONSE), row, columns, "spec.dataset.columns")
    if tokenizer.chat_template is None:
        message = 'is not set, and the model\'s tokenizer has no chat template; set one such as "{prompt} {response}"'
        raise InputError(Problem(message, "spec.objective.instruction.template"))
    messages = [{"role": "user", "content": fill("{prompt}", row, columns, "spec.dataset.columns")}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def response_of(row: Row, spec: FineTuneJobSpec) -> str:
    """The response that a row asks for."""
    return fill(_RESPONSE, row, spec.dataset.columns, "spec.dataset.columns")


def encode(rows: Sequence[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Tokenizes rows for the spec's objective."""
    if spec.objective.instruction is not None:
        return encode_instruction(rows, spec, tokenizer)
    return encode_causal_lm(rows, spec, tokenizer)


def encode_prompts(texts: Sequence[str], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Prompts as tokens; a chat template has put the special tokens into the text already."""
    assert spec.objective.instruction is not None
    special = spec.objective.instruction.template is not None
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
    return [i[:-1] if i and i[-1] == tokenizer.eos_token_id and special else i for i in ids]


def encode_instruction(rows: Sequence[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Prompt and response; the loss is on the response and the end-of-sequence token after it.

    Both are tokenized apart, so that training sees the prompt's tokens exactly as generation does. A row over
    maxLength loses the end of its response; one whose prompt leaves no room is dropped.
    """
    limit = spec.training.max_length
    prompts = encode_prompts([prompt_of(row, spec, tokenizer) for row in rows], spec, tokenizer)
    responses = tokenizer([response_of(row, spec) for row in rows], add_special_tokens=False)["input_ids"]
    encoded, truncated, dropped = [], 0, 0
    for prompt, response in zip(prompts, responses, strict=True):
        tokens = [*prompt, *response, tokenizer.eos_token_id]
        if len(prompt) >= limit or len(prompt) == 0 == len(response):
            dropped += 1
            continue
        truncated += len(tokens) > limit
        learned = [False] * len(prompt) + [True] * (len(tokens) - len(prompt))
        encoded.append((tokens[:limit], learned[:limit]))
    return _join(encoded, truncated, dropped)


def encode_causal_lm(rows: Sequence[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Whole texts, each ended by the end-of-sequence token; one over maxLength is cut into several rows."""
    assert spec.objective.causal_lm is not None
    template, limit = spec.objective.causal_lm.template, spec.training.max_length
    texts = [fill(template, row, spec.dataset.columns, "spec.dataset.columns") for row in rows]
    encoded, dropped = [], 0
    for ids in tokenizer(texts)["input_ids"]:
        if not ids or ids[-1] != tokenizer.eos_token_id:
            ids = [*ids, tokenizer.eos_token_id]
        pieces = [ids[start : start + limit] for start in range(0, len(ids), limit)]
        kept = [piece for piece in pieces if len(piece) > 1]
        dropped += not kept
        encoded += [(piece, [True] * len(piece)) for piece in kept]
    return _join(encoded, 0, dropped)
