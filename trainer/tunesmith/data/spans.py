"""Replaces spans of a text that an encoder-decoder is to write out (T5, Raffel et al. 2019, arXiv:1910.10683)."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunesmith.api.load import InputError, Problem
from tunesmith.api.objective import SpanCorruption
from tunesmith.data.examples import Example, Tokens

PLACE = "spec.objective.seq2seq.spanCorruption"


@dataclass(frozen=True)
class SpanMasking:
    """Draws which spans of a row are replaced. Their number and their tokens follow from the row's length; only where
    they are is drawn, each way to place them apart from each other as likely as any other. (T5's own code has a span at
    the end of every row, so that of a short one always the same is replaced.)"""

    density: float
    mean_length: float
    sentinels: Tokens
    """What stands for the first, second, ... span; shape [sentinels]."""
    end: int
    """The end-of-sequence token, after both sides."""

    def counts(self, length: int) -> tuple[int, int]:
        """Replaced tokens, and spans, of a row of some length (at least 2)."""
        replaced = min(max(1, round(length * self.density)), length - 1)
        return replaced, min(max(1, round(replaced / self.mean_length)), replaced, length - replaced)

    def longest(self, limit: int) -> int:
        """The longest row of which neither side has more than `limit` tokens; 0 if there is none."""
        lengths = range(2, 2 * limit + 1)  # both sides together have more tokens than the row
        fitting = bisect_right(lengths, limit, key=lambda length: max(self._sides(length)))
        return lengths[fitting - 1] if fitting else 0

    def _sides(self, length: int) -> tuple[int, int]:
        replaced, spans = self.counts(length)
        return length - replaced + spans + 1, replaced + spans + 1

    def __call__(self, tokens: Tokens, random: np.random.Generator) -> Example:
        """A row with its spans replaced by sentinels; the targets are the spans, each after its sentinel."""
        replaced, spans = self.counts(len(tokens))
        # one part before, one after and one or more tokens between two spans
        first, *between, last = _parts(len(tokens) - replaced + 2, spans + 1, random)
        kept_parts = [first - 1, *between, last - 1]
        source: list[NDArray[np.int32]] = []
        target: list[NDArray[np.int32]] = []
        start = 0
        for kept, lost, sentinel in zip(kept_parts, _parts(replaced, spans, random), self.sentinels, strict=False):
            middle, following = start + kept, start + kept + lost
            source += [tokens[start:middle], sentinel[None]]
            target += [sentinel[None], tokens[middle:following]]
            start = following
        end = np.array([self.end], np.int32)
        return Example(np.concatenate([*source, tokens[start:], end]), np.concatenate([*target, end]), None)


def _parts(total: int, count: int, random: np.random.Generator) -> list[int]:
    """Cuts `total` into `count` parts of at least 1, every way being equally likely."""
    cuts = np.sort(random.choice(total - 1, count - 1, replace=False) + 1)
    return [int(part) for part in np.diff([0, *cuts, total])]


def span_masking(objective: SpanCorruption, limit: int, tokenizer: PreTrainedTokenizerBase) -> SpanMasking:
    """The drawing that a spec asks for.

    Args:
        objective: how much is replaced.
        limit: the longest source and the longest target, in tokens.
        tokenizer: has the sentinels <extra_id_0>, <extra_id_1>, ...

    Raises:
        InputError: it has none, or too few; or the limit leaves room for nothing.
    """
    vocabulary = tokenizer.get_vocab()
    found = (vocabulary.get(f"<extra_id_{number}>") for number in range(len(vocabulary)))
    sentinels = np.array(list(takewhile(lambda token: token is not None, found)), np.int32)
    if len(sentinels) == 0:
        raise InputError(Problem("needs a tokenizer with the sentinels <extra_id_0>, <extra_id_1>, ... of a T5", PLACE))
    drawing = SpanMasking(objective.density, objective.mean_length, sentinels, int(tokenizer.eos_token_id))
    longest = drawing.longest(limit)
    if longest == 0:
        raise InputError(Problem(f"is {limit}, which leaves no room for a span; raise it", "spec.training.maxLength"))
    spans = drawing.counts(longest)[1]
    if spans > len(sentinels):
        message = f"replaces {spans} spans of a row, but the tokenizer has {len(sentinels)} sentinels; raise meanLength"
        raise InputError(Problem(f"{message} or lower training.maxLength", PLACE))
    return drawing
