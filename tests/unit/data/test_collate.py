"""From rows to tensors: packed and padded hold the same."""

from typing import Any

import numpy as np
import pytest
import torch

from tunesmith.data.collate import Batch, Collator
from tunesmith.data.tokenized import TokenizedRows

PAD = 0


def collate(data: TokenizedRows, rows: list[int], packed: bool) -> Batch:
    return Collator(PAD, packed).batch(data, rows, epoch=0)


def rows_of(*rows: tuple[list[int], list[int]]) -> TokenizedRows:
    """Rows given as prompt and response."""
    tokens = [np.array([*prompt, *response]) for prompt, response in rows]
    masks = [np.array([False] * len(prompt) + [True] * len(response)) for prompt, response in rows]
    offsets = np.cumsum([0, *(len(row) for row in tokens)])
    return TokenizedRows(np.concatenate(tokens).astype(np.int32), np.concatenate(masks), offsets)


DATA = rows_of(([1, 2], [3, 0]), ([4], [5]), ([6, 7, 8], [9, 0]))


def predictions(batch: Batch) -> list[tuple[int, int, int]]:
    """(token, its position in its row, the token after it that is learned)."""
    tokens, positions = (tensor[batch.keep].tolist() for tensor in (batch.input_ids, batch.position_ids))
    return sorted(zip(tokens, positions, batch.targets.tolist(), strict=True))


EXPECTED = sorted([(2, 1, 3), (3, 2, 0), (4, 0, 5), (8, 2, 9), (9, 3, 0)])


@pytest.mark.parametrize("packed", [True, False])
def test_each_learned_token_is_predicted_from_the_one_before(packed: bool) -> None:
    assert predictions(collate(DATA, [2, 0, 1], packed)) == EXPECTED


def test_packed_rows_lie_end_to_end() -> None:
    batch = collate(DATA, [2, 1], True)
    assert batch.input_ids.tolist() == [[6, 7, 8, 9, 0, 4, 5]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 0, 1]]
    assert (batch.row_lengths, batch.tokens) == ([5, 2], 7)


def test_padded_rows_lie_side_by_side() -> None:
    batch = collate(DATA, [1, 0], False)
    assert batch.input_ids.tolist() == [[4, 5, PAD, PAD], [1, 2, 3, 0]]
    assert batch.keep.tolist() == [[True, False, False, False], [False, True, True, False]]
    assert (batch.row_lengths, batch.tokens) == (None, 6)


def test_the_last_token_of_a_packed_row_predicts_nothing_of_the_next() -> None:
    batch = collate(rows_of(([1], [2]), ([], [3, 4])), [0, 1], True)
    assert batch.keep.tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("packed", [True, False])
def test_no_rows_are_a_token_with_nothing_to_learn(packed: bool) -> None:
    batch = collate(DATA, [], packed)
    assert batch.input_ids.shape == (1, 1)
    assert (batch.tokens, batch.targets.tolist(), bool(batch.keep.any())) == (0, [], False)


def test_dtypes() -> None:
    batch: Any = collate(DATA, [0, 1], True)
    assert {batch.input_ids.dtype, batch.position_ids.dtype, batch.targets.dtype} == {torch.int64}
    assert batch.keep.dtype == torch.bool
