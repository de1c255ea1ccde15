"""Hides tokens that an encoder is to fill in (BERT, Devlin et al. 2018, arXiv:1810.04805)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunesmith.api.load import InputError, Problem
from tunesmith.api.objective import MaskedLM
from tunesmith.data.examples import Example, Tokens

MASKED, RANDOM = 0.8, 0.1
"""Of the chosen tokens, the share that becomes the mask, and the share that becomes a random token; the rest stays."""


@dataclass(frozen=True)
class Words:
    """Where words begin and end, for each entry of a vocabulary; bool [vocabulary]."""

    begins: NDArray[np.bool_]
    """A word begins with this token, whatever is before it."""
    ends: NDArray[np.bool_]
    """A word ends with this token, whatever follows."""

    def numbers(self, tokens: Tokens) -> NDArray[np.int64]:
        """Which word of a row each token belongs to, counted from 0."""
        first = self.begins[tokens]
        first[1:] |= self.ends[tokens[:-1]]
        first[0] = False
        return first.cumsum()


@dataclass(frozen=True)
class Masking:
    """Draws which tokens of a row are hidden; each with the same probability, on its own, or with its word."""

    probability: float
    mask_token: int
    special: NDArray[np.bool_]
    """Tokens that are never chosen, and never stand in for another; bool [vocabulary]."""
    words: Words | None = None
    """Chooses words as a whole."""

    def __call__(self, tokens: Tokens, random: np.random.Generator) -> Example:
        """A row with some of its tokens hidden; the targets are what stood there."""
        groups = np.arange(len(tokens)) if self.words is None else self.words.numbers(tokens)
        chosen = (random.random(len(tokens)) < self.probability)[groups] & ~self.special[tokens]
        lot, ordinary = random.random(len(tokens)), np.flatnonzero(~self.special).astype(np.int32)
        others = random.choice(ordinary, len(tokens))
        hidden = np.where(lot < MASKED, self.mask_token, np.where(lot < MASKED + RANDOM, others, tokens))
        return Example(np.where(chosen, hidden, tokens).astype(np.int32), tokens[chosen], chosen)


def masking(objective: MaskedLM, tokenizer: PreTrainedTokenizerBase) -> Masking:
    """The masking that a spec asks for.

    Raises:
        InputError: the tokenizer has no mask token, or does not tell words apart.
    """
    if tokenizer.mask_token_id is None:
        message = "its tokenizer has no mask token; objective.maskedLM needs an encoder such as BERT"
        raise InputError(Problem(message, "spec.model.source"))
    special = np.zeros(len(tokenizer), np.bool_)
    special[special_tokens(tokenizer)] = True
    words = words_of(tokenizer, special) if objective.whole_words else None
    return Masking(objective.probability, int(tokenizer.mask_token_id), special, words)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that stand for no text."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(added | set(tokenizer.all_special_ids))


def words_of(tokenizer: PreTrainedTokenizerBase, special: NDArray[np.bool_]) -> Words:
    """Where words begin and end, read off the vocabulary's own marks.

    WordPiece marks what goes on (##ing), SentencePiece (▁word) and byte-level tokenizers (Ġword) what begins. In the
    latter two, a change to or from anything but letters and digits parts words as well.

    Raises:
        InputError: there is no mark in the vocabulary.
    """
    entries = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    counts = {mark: sum(str(entry).startswith(mark) for entry in entries) for mark in ("##", "▁", "Ġ")}
    mark = max(counts, key=lambda each: counts[each])
    if counts[mark] == 0:
        message = "does not work with this tokenizer, which does not mark where words begin; set it to false"
        raise InputError(Problem(message, "spec.objective.maskedLM.wholeWords"))
    if mark == "##":
        begins = np.array([not str(entry).startswith(mark) for entry in entries])
        return Words(begins | special, special)
    texts = [_text(str(entry), mark) for entry in entries]
    first = np.array([not _in_word(text[:1]) for text in texts])
    # a space belongs to what follows
    last = np.array([not _in_word(text[-1:]) and not text.isspace() for text in texts])
    return Words(first | special, last | special)


def _text(entry: str, mark: str) -> str:
    """What an entry of the vocabulary stands for; half a character is U+FFFD."""
    from tokenizers import decoders

    return entry.replace(mark, " ") if mark == "▁" else str(decoders.ByteLevel().decode([entry]))


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "\ufffd"
