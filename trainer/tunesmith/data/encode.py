"""From rows to tokens: templates, truncation, and the mask of what the loss is computed on.

Label masks go by position, never by token id, so that a padding token that is also the end-of-sequence token is learnt.
"""

import json
import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from tunesmith.api.dataset import Columns
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.data.rows import Row
from tunesmith.data.tokenized import TokenizedRows, join_rows

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_RESPONSE = "{response}"


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
    return join_rows(encoded, truncated, dropped)


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
    return join_rows(encoded, 0, dropped)
