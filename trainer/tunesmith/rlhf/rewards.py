"""What an answer earns: the terms of `objective.ppo.reward`, each a number for each answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import regex
from transformers import PreTrainedTokenizerBase

from tunesmith.api.load import InputError, Problem
from tunesmith.api.reward import RewardTerm
from tunesmith.data.examples import Example, Examples
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.evaluation.metrics.words import exact_match
from tunesmith.rlhf.advantages import Floats

PLACE = "spec.objective.ppo.reward"
_PATIENCE_S = 0.1
"""For one answer and one pattern: some patterns take for ever on some texts."""


@dataclass(frozen=True)
class Answer:
    """An answer, as rules look at it."""

    text: str
    """Without special tokens."""
    reference: str
    """The right answer; empty where the data has none."""
    tokens: int
    """Its length, the token that ends it included."""


Rule = Callable[[Answer], float]


def rule_of(term: RewardTerm, index: int) -> Rule | None:
    """How a term judges an answer by rule; None for a reward model.

    Args:
        term: of the reward.
        index: its place, for messages.
    """
    if term.exact_match is not None:
        return lambda answer: exact_match(answer.text, answer.reference)
    if term.pattern is not None:
        return _matcher(term.pattern.regex, f"{PLACE}[{index}].pattern.regex")
    if term.length is not None:
        longest = term.length.tokens
        return lambda answer: -float(answer.tokens > longest)
    return None


def _matcher(pattern: str, place: str) -> Rule:
    compiled = regex.compile(pattern)

    def matches(answer: Answer) -> float:
        try:
            return float(compiled.fullmatch(answer.text, timeout=_PATIENCE_S) is not None)
        except TimeoutError:
            message = f"takes more than {_PATIENCE_S} s for {answer.text[:60]!r}; write it without nested repetitions"
            raise InputError(Problem(message, place)) from None

    return matches


def judge(rules: Sequence[Rule], answers: Sequence[Answer]) -> list[list[float]]:
    """What every rule gives every answer; [rules][answers]."""
    return [[rule(answer) for answer in answers] for rule in rules]


def weighted(terms: Sequence[RewardTerm], values: Floats, ended: Any, missing_end_penalty: float) -> Floats:
    """The rewards of some answers.

    Args:
        terms: of the reward.
        values: what each term gives each answer; [terms, rows].
        ended: which answers have an end; bool [rows].
        missing_end_penalty: what it costs to have none.

    Returns:
        [rows].

    Raises:
        InputError: a term gives what is no number.
    """
    for index, (term, given) in enumerate(zip(terms, values, strict=True)):
        if not np.isfinite(given).all():
            bad = int(np.argmin(np.isfinite(given)))
            message = (
                f"gives {given[bad]} for an answer (the {bad + 1}. of its step); mend or exchange the reward model"
            )
            raise InputError(Problem(message, f"{PLACE}[{index}].{_name(term)}"))
    weights = np.array([term.weight for term in terms])
    scores: Floats = weights @ values - missing_end_penalty * ~ended
    return scores


def _name(term: RewardTerm) -> str:
    return (term.members_present() - {"weight"}).pop()


def at_the_end() -> Examples:
    """Rows as a reward model meets them: it is asked at the last token."""

    def ask(tokens: Any, random: np.random.Generator) -> Example:
        keep = np.zeros(len(tokens), np.bool_)
        keep[-1] = True
        return Example(tokens, tokens[-1:], keep)

    return Examples(draw=ask)


def references(data: TokenizedRows, tokenizer: PreTrainedTokenizerBase, rows: Sequence[int]) -> list[str]:
    """The right answers of some rows: their learned tokens as text."""
    texts: list[str] = tokenizer.batch_decode(
        [data.row(row)[0][data.row(row)[1]] for row in rows], skip_special_tokens=True
    )
    return texts


def decoded(tokenizer: PreTrainedTokenizerBase, answers: Sequence[Sequence[int]]) -> list[str]:
    """Answers as texts, without special tokens."""
    texts: list[str] = tokenizer.batch_decode(
        [list(answer) for answer in answers], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts
