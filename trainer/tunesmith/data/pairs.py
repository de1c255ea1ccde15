"""Preferences in the forms that people collect them in, as pairs: a prompt with a preferred and another answer.

A pair is one row of tokens: the prompt with the preferred answer, then the prompt with the other, end to end. One
learned position, the first token of the second, marks where the first ends, so that a pair counts once.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.data.encode import encode_prompts, prompt_of, token_ids
from tunesmith.data.rows import Row
from tunesmith.data.tokenized import TokenizedRows, join_rows

_COLUMNS = "spec.dataset.columns"


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt."""

    prompt: str
    """As the template renders it."""
    chosen: str
    rejected: str
    margin: float = 1.0
    """By how much the first is preferred."""


def pairs_of(rows: Iterable[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> Iterator[Pair]:
    """The pairs in rows of pairs, of rankings, or of ratings; the latter are read to their end first.

    Raises:
        InputError: a column is missing, or holds what it should not.
    """
    columns = spec.dataset.columns
    if columns.rating is not None:
        yield from _of_ratings(rows, spec, tokenizer)
        return
    for row in rows:
        prompt = prompt_of(row, spec, tokenizer)
        if columns.ranking is not None:
            for better, worse in combinations(_ranking(row, columns.ranking), 2):
                yield Pair(prompt, better, worse)
        else:
            margin = 1.0 if columns.margin is None else _number(row, columns.margin, "margin")
            if margin < 0:
                raise _refused(row, "margin", f"is {margin:g}; a pair is preferred by 0 at least: swap its answers")
            yield Pair(prompt, _text(row, columns.chosen, "chosen"), _text(row, columns.rejected, "rejected"), margin)


def _of_ratings(rows: Iterable[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> Iterator[Pair]:
    """Answers to one prompt that are rated differently; several ratings of an answer count as their mean."""
    columns = spec.dataset.columns
    assert columns.rating is not None
    given: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        answers = given.setdefault(prompt_of(row, spec, tokenizer), {})
        rating = _number(row, columns.rating, "rating")
        answers.setdefault(_text(row, columns.response, "response"), []).append(rating)
    for prompt, answers in given.items():
        means = {answer: math.fsum(ratings) / len(ratings) for answer, ratings in answers.items()}
        for one, other in combinations(means, 2):
            chosen, rejected = (one, other) if means[one] > means[other] else (other, one)
            if means[one] != means[other]:
                yield Pair(prompt, chosen, rejected, means[chosen] - means[rejected])


def encode_pairs(pairs: Sequence[Pair], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> TokenizedRows:
    """Tokenizes pairs; each answer is ended by the end-of-sequence token, and loses its end where prompt and answer are
    over maxLength.

    Dropped are pairs whose prompt leaves no room, and, counted apart, pairs of which both answers are the same.
    """
    limit = spec.training.max_length
    prompts = encode_prompts([pair.prompt for pair in pairs], spec, tokenizer)
    chosen_sides = token_ids([pair.chosen for pair in pairs], tokenizer, special=False)
    rejected_sides = token_ids([pair.rejected for pair in pairs], tokenizer, special=False)
    end = tokenizer.eos_token_id
    encoded, margins, truncated, dropped, equal = [], [], 0, 0, 0
    for pair, prompt, *answers in zip(pairs, prompts, chosen_sides, rejected_sides, strict=True):
        if len(prompt) >= limit:
            dropped += 1
            continue
        whole = [[*prompt, *answer, end] for answer in answers]
        chosen, rejected = (tokens[:limit] for tokens in whole)
        if chosen == rejected:
            equal += 1
            continue
        truncated += any(len(tokens) > limit for tokens in whole)
        mask = np.zeros(len(chosen) + len(rejected), np.bool_)
        mask[len(chosen)] = True
        encoded.append(([*chosen, *rejected], mask))
        margins.append(pair.margin)
    return join_rows(encoded, truncated, dropped, equal, np.array(margins, np.float32))


def _ranking(row: Row, column: str) -> list[str]:
    answers = _value(row, column, "ranking")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise _refused(row, "ranking", f"{column!r} should be a list of answers, the best first")
    return answers


def _text(row: Row, column: str, part: str) -> str:
    value = _value(row, column, part)
    if isinstance(value, list | dict):
        raise _refused(row, part, f"{column!r} should be a text")
    return str(value)


def _number(row: Row, column: str, part: str) -> float:
    value = _value(row, column, part)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refused(row, part, f"{column!r} should be a number, and is {json.dumps(value, default=str)}")
    return float(value)


def _value(row: Row, column: str, part: str) -> Any:
    if column not in row:
        listing = ", ".join(sorted(row))
        raise InputError(Problem(f"there is no column {column!r}; the data has: {listing}", f"{_COLUMNS}.{part}"))
    if row[column] is None:
        raise _refused(row, part, f"column {column!r} is null")
    return row[column]


def _refused(row: Row, part: str, reason: str) -> InputError:
    start = json.dumps(row, default=str, ensure_ascii=False)[:100]
    return InputError(Problem(f"{reason}, in the row that starts {start}", f"{_COLUMNS}.{part}"))
