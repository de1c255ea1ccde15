"""What a model is shown of a row, and what it is to say: fixed, or drawn anew in each epoch.

A drawing is a function of (seed, epoch, row) alone, so that neither workers nor micro-batches nor packing nor an
interruption changes it, and every worker can count the learned tokens of a whole step without communication.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.tokenized import TokenizedRows

Tokens = NDArray[np.int32]

FIXED = -1
"""Stands for the epoch of rows that are validated or tested on: what is drawn for them never changes."""


@dataclass(frozen=True)
class Example:
    """One row as the model meets it."""

    inputs: Tokens
    """What a decoder or encoder reads; shape [inputs]."""
    targets: Tokens
    """The learned tokens, in order; shape [targets]."""
    keep: NDArray[np.bool_] | None
    """Positions of `inputs` at which the targets are predicted; None where a decoder of its own writes them."""


Draw = Callable[[Tokens, np.random.Generator], Example]
"""From a row's tokens and a source of randomness to an example."""


def next_tokens(tokens: Tokens, learned: NDArray[np.bool_]) -> Example:
    """Each learned token is predicted from those before it."""
    return Example(tokens, tokens[1:][learned[1:]], np.append(learned[1:], False))


def halves(tokens: Tokens, mask: NDArray[np.bool_]) -> list[Example]:
    """Both texts of a pair's row, of which the mask marks where the second begins; each is scored at its last token."""
    end = int(mask.argmax())
    return [scored(tokens[:end]), scored(tokens[end:])]


def scored(text: Tokens) -> Example:
    """A text that is scored at its last token."""
    return Example(text, np.zeros(0, np.int32), np.arange(len(text)) == len(text) - 1)


def text_to_text(tokens: Tokens, learned: NDArray[np.bool_]) -> Example:
    """The learned tokens are written while the others are read."""
    return Example(tokens[~learned], tokens[learned], None)


@dataclass(frozen=True)
class Examples:
    """The examples of a run's rows."""

    seed: int = 0
    draw: Draw | None = None
    """For objectives that draw; without it the rows' own mask says what is learned."""
    side_by_side: bool = False
    """Whether a row is a source and a target for an encoder and a decoder, rather than one sequence."""

    def of(self, data: TokenizedRows, row: int, epoch: int) -> Example:
        """The example of a row in an epoch, or the FIXED one."""
        tokens, learned = data.row(row)
        if self.draw is not None:
            return self.draw(tokens, np.random.default_rng([self.seed, epoch - FIXED, row]))
        return text_to_text(tokens, learned) if self.side_by_side else next_tokens(tokens, learned)

    def targets(self, data: TokenizedRows, rows: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """Learned tokens of each of some rows; shape [rows]."""
        if self.draw is None:
            return data.targets[rows]
        return np.array([len(self.of(data, row, epoch).targets) for row in rows.tolist()], np.int64)
