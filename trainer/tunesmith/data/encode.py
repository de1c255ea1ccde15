"""From rows to tokens: templates, truncation, and the mask of what the loss is computed on.

Label masks go by position, never by token id, so that a padding token that is also the end-of-sequence token is learnt.
"""

import json
import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunesmith.api.dataset import Columns
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.data.chat import encode_chat, messages_of, prompt_and_reference
from tunesmith.data.examples import Examples
from tunesmith.data.mask import masking, special_tokens
from tunesmith.data.rows import Row
from tunesmith.data.spans import span_masking
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


def text_of(row: Row, spec: FineTuneJobSpec) -> str | None:
    """A row's text, where that is all it holds; None where it has a prompt and a response."""
    objective = spec.objective
    plain = objective.causal_lm or objective.masked_lm
    if plain is not None:
        template = plain.template
    elif objective.seq2seq is not None and objective.seq2seq.span_corruption is not None:
        template = objective.seq2seq.template or "{text}"
    else:
        return None
    return fill(template, row, spec.dataset.columns, "spec.dataset.columns")


def prompt_of(row: Row, spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text before a row's response: what generation starts from, or what an encoder reads."""
    columns = spec.dataset.columns
    if spec.objective.seq2seq is not None:
        return fill(spec.objective.seq2seq.template or "{prompt}", row, columns, "spec.dataset.columns")
    template = spec.objective.template
    if template is not None:
        return fill(template.removesuffix(_RESPONSE), row, columns, "spec.dataset.columns")
    if columns.messages is not None:
        return prompt_and_reference(row, columns.messages, tokenizer)[0]
    if tokenizer.chat_template is None:
        message = 'is not set, and the model\'s tokenizer has no chat template; set one such as "{prompt} {response}"'
        raise InputError(Problem(message, f"spec.objective.{spec.objective.chosen}.template"))
    messages = [{"role": "user", "content": fill("{prompt}", row, columns, "spec.dataset.columns")}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def prompt_columns(row: Row, spec: FineTuneJobSpec) -> str:
    """What of a row makes its prompt, without what a chat template adds."""
    template = spec.objective.template or "{prompt}"
    return fill(template.removesuffix(_RESPONSE), row, spec.dataset.columns, "spec.dataset.columns")


def response_of(row: Row, spec: FineTuneJobSpec) -> str:
    """The response that a row asks for; of a conversation, the assistant's last turn."""
    if spec.dataset.columns.messages is not None:
        return str(messages_of(row, spec.dataset.columns.messages)[-1].get("content") or "")
    return fill(_RESPONSE, row, spec.dataset.columns, "spec.dataset.columns")


def whole_text(row: Row, spec: FineTuneJobSpec) -> str:
    """All text of a row, for a tokenizer that is yet to be trained; without what a chat template adds."""
    text = text_of(row, spec)
    if text is not None:
        return text
    if spec.dataset.columns.messages is not None:
        return "\n".join(str(m.get("content") or "") for m in messages_of(row, spec.dataset.columns.messages))
    if spec.objective.kind == "decoder" and spec.objective.template is None:
        return fill("{prompt}\n{response}", row, spec.dataset.columns, "spec.dataset.columns")
    no_tokenizer = PreTrainedTokenizerBase.__new__(PreTrainedTokenizerBase)
    return prompt_of(row, spec, no_tokenizer) + response_of(row, spec)


def encode(rows: Sequence[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Tokenizes rows for the spec's objective."""
    objective, limit = spec.objective, spec.training.max_length
    if objective.causal_lm is not None:
        return encode_causal_lm(_texts(rows, spec), limit, tokenizer)
    if objective.masked_lm is not None:
        return encode_masked_lm(_texts(rows, spec), limit, tokenizer)
    if objective.seq2seq is not None and objective.seq2seq.span_corruption is not None:
        drawing = span_masking(objective.seq2seq.span_corruption, limit, tokenizer)
        return encode_spans(_texts(rows, spec), drawing.longest(limit), tokenizer)
    if objective.seq2seq is not None:
        return encode_text_to_text(rows, spec, tokenizer)
    if objective.ppo is not None:
        return encode_prompts_to_answer(rows, spec, tokenizer)
    if spec.dataset.columns.messages is not None:
        return encode_chat(rows, spec.dataset.columns.messages, limit, tokenizer)
    return encode_instruction(rows, spec, tokenizer)


def examples_of(spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> Examples:
    """What of the encoded rows is shown and what is learned.

    Raises:
        InputError: the tokenizer lacks what the objective needs.
    """
    objective, seed = spec.objective, spec.training.seed
    if objective.masked_lm is not None:
        return Examples(seed, masking(objective.masked_lm, tokenizer))
    if objective.seq2seq is not None and objective.seq2seq.span_corruption is not None:
        return Examples(seed, span_masking(objective.seq2seq.span_corruption, spec.training.max_length, tokenizer))
    return Examples(seed, side_by_side=objective.seq2seq is not None)


def encode_prompts(texts: Sequence[str], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Prompts as tokens; a chat template has put the special tokens into the text already."""
    if spec.objective.seq2seq is not None:
        return encode_sources(texts, spec.training.max_length, tokenizer)[0]
    special = spec.objective.template is not None
    ids, end = token_ids(texts, tokenizer, special), tokenizer.eos_token_id
    return [i[:-1] if i and i[-1] == end and special else i for i in ids]


def encode_sources(
    texts: Sequence[str], limit: int, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[list[int]], list[bool]]:
    """What an encoder reads, ended by the end-of-sequence token, and whether it was cut to `limit` tokens."""
    end = int(tokenizer.eos_token_id)
    ids = [[*row[:-1], end] if row and row[-1] == end else [*row, end] for row in token_ids(texts, tokenizer)]
    return [[*row[: limit - 1], end] if len(row) > limit else row for row in ids], [len(row) > limit for row in ids]


def encode_text_to_text(
    rows: Sequence[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase
) -> TokenizedRows:
    """Source and target, one after the other; the learned ones are the target, and the end-of-sequence token after it.

    Each side over maxLength loses its end.
    """
    limit = spec.training.max_length
    sources, cut = encode_sources([prompt_of(row, spec, tokenizer) for row in rows], limit, tokenizer)
    targets = token_ids([response_of(row, spec) for row in rows], tokenizer, special=False)
    end, encoded, truncated = tokenizer.eos_token_id, [], 0
    for source, target, shortened in zip(sources, targets, cut, strict=True):
        said = [*target, end]
        truncated += shortened or len(said) > limit
        said = said[:limit]
        encoded.append(([*source, *said], [False] * len(source) + [True] * len(said)))
    return join_rows(encoded, truncated, 0)


def encode_masked_lm(texts: Sequence[str], limit: int, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Whole texts, each between the special tokens that the model's tokenizer puts around one; a text over `limit` is
    cut into several rows."""
    before, after = _frame(tokenizer)
    special = set(special_tokens(tokenizer))
    room = limit - len(before) - len(after)
    if room < 1:
        message = f"is {limit}, of which {len(before) + len(after)} are special tokens; raise it"
        raise InputError(Problem(message, "spec.training.maxLength"))
    encoded, dropped = [], 0
    for ids in token_ids(texts, tokenizer, special=False):
        pieces = [ids[start : start + room] for start in range(0, len(ids), room)]
        kept = [[*before, *piece, *after] for piece in pieces if not special.issuperset(piece)]
        dropped += not kept
        encoded += [(piece, [True] * len(piece)) for piece in kept]
    return join_rows(encoded, 0, dropped)


def encode_spans(texts: Sequence[str], length: int, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Whole texts, without special tokens; one over `length` is cut into several rows."""
    encoded, dropped = [], 0
    for ids in token_ids(texts, tokenizer, special=False):
        pieces = [ids[start : start + length] for start in range(0, len(ids), length)]
        kept = [piece for piece in pieces if len(piece) > 1]
        dropped += not kept
        encoded += [(piece, [True] * len(piece)) for piece in kept]
    return join_rows(encoded, 0, dropped)


def token_ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, special: bool = True) -> list[list[int]]:
    """The tokens of each text, as `tokenizer(texts)["input_ids"]` has them.

    Where the tokenizer is one of Rust's, it is asked directly: transformers has it find where in the text each token
    stands, and makes masks, which takes a quarter of the time and is not needed here.

    Args:
        texts: to tokenize.
        tokenizer: of the model.
        special: whether it adds the special tokens that its model expects.
    """
    if not texts:
        return []
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
        return ids
    rust = tokenizer.backend_tokenizer
    rust.no_truncation()  # as its file may have it
    rust.no_padding()
    rust.encode_special_tokens = tokenizer.split_special_tokens
    return [encoding.ids for encoding in rust.encode_batch_fast(list(texts), add_special_tokens=special)]


def _frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed: list[int] = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
    return framed[:start], framed[start + len(bare) :]


def _texts(rows: Sequence[Row], spec: FineTuneJobSpec) -> list[str]:
    return [text for row in rows if (text := text_of(row, spec)) is not None]


def encode_instruction(rows: Sequence[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Prompt and response; the loss is on the response and the end-of-sequence token after it.

    Both are tokenized apart, so that training sees the prompt's tokens exactly as generation does. A row over
    maxLength loses the end of its response; one whose prompt leaves no room is dropped.
    """
    limit = spec.training.max_length
    prompts = encode_prompts([prompt_of(row, spec, tokenizer) for row in rows], spec, tokenizer)
    responses = token_ids([response_of(row, spec) for row in rows], tokenizer, special=False)
    end, encoded, truncated, dropped = tokenizer.eos_token_id, [], 0, 0
    for prompt, response in zip(prompts, responses, strict=True):
        tokens = [*prompt, *response, end]
        if len(prompt) >= limit or len(prompt) == 0 == len(response):
            dropped += 1
            continue
        truncated += len(tokens) > limit
        learned = [False] * len(prompt) + [True] * (len(tokens) - len(prompt))
        encoded.append((tokens[:limit], learned[:limit]))
    return join_rows(encoded, truncated, dropped)


def encode_prompts_to_answer(
    rows: Sequence[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase
) -> TokenizedRows:
    """Prompts that a policy is to answer, each followed by the right answer where the data has one: the learned tokens,
    though nothing learns them; the reward may compare with them. A prompt that leaves no room for an answer is dropped.
    """
    ppo = spec.objective.ppo
    assert ppo is not None
    limit = spec.training.max_length - ppo.max_new_tokens
    prompts = encode_prompts([prompt_of(row, spec, tokenizer) for row in rows], spec, tokenizer)
    column = spec.dataset.columns.response
    answers = [response_of(row, spec) if column in row or ppo.compares else "" for row in rows]
    right = token_ids(answers, tokenizer, special=False)
    encoded = [
        ([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
        for prompt, answer in zip(prompts, right, strict=True)
        if 0 < len(prompt) <= limit
    ]
    return join_rows(encoded, 0, len(rows) - len(encoded))


def encode_causal_lm(texts: Sequence[str], limit: int, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Whole texts, each ended by the end-of-sequence token; one over `limit` is cut into several rows."""
    end, encoded, dropped = tokenizer.eos_token_id, [], 0
    for ids in token_ids(texts, tokenizer):
        if not ids or ids[-1] != end:
            ids = [*ids, end]
        pieces = [ids[start : start + limit] for start in range(0, len(ids), limit)]
        kept = [piece for piece in pieces if len(piece) > 1]
        dropped += not kept
        encoded += [(piece, [True] * len(piece)) for piece in kept]
    return join_rows(encoded, 0, dropped)
