"""Tokenized rows as flat arrays, and the mask of what the loss is computed on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenizedRows:
    """Rows as one array of tokens, in memory or on a disk."""

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
    equal: int = 0
    """Pairs that were left out, since both their answers are the same."""
    margins: NDArray[np.float32] | None = None
    """Of pairs, by how much the first answer is preferred; shape [rows]."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row; shape [rows]."""
        return np.diff(self.offsets)

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """Learned tokens of each row; shape [rows]."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.add.reduceat(self.learned, self.offsets[:-1], dtype=np.int64)

    def row(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Tokens and mask of one row."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[span], self.learned[span]

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> "TokenizedRows":
        """These rows, in this order."""
        margins = self.margins[indices] if self.margins is not None else None
        return join_rows([self.row(i) for i in indices], self.truncated, self.dropped, self.equal, margins)


def join_rows(
    rows: Sequence[tuple[Any, Any]],
    truncated: int,
    dropped: int,
    equal: int = 0,
    margins: NDArray[np.float32] | None = None,
) -> TokenizedRows:
    """Rows, each as its tokens and the mask of the learned ones, as one array."""
    offsets = np.cumsum([0, *(len(tokens) for tokens, _ in rows)], dtype=np.int64)
    empty_tokens, empty_mask = np.zeros(0, np.int32), np.zeros(0, np.bool_)
    tokens = np.concatenate([empty_tokens, *(np.asarray(t, np.int32) for t, _ in rows)])
    learned = np.concatenate([empty_mask, *(np.asarray(m, np.bool_) for _, m in rows)])
    if len(tokens):
        learned[offsets[:-1]] = False  # nothing predicts a row's first token
    return TokenizedRows(tokens, learned, offsets, truncated, dropped, equal, margins)
