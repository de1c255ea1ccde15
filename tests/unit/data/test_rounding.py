"""Sizes that are rounded up: few of them, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tunesmith.data.collate import IGNORED, Batch, Collator, rounded_up
from tunesmith.data.examples import Example
from tunesmith.data.tokenized import TokenizedRows

PAD = 0
GENERATOR = np.random.default_rng(0)
DATA = TokenizedRows(
    GENERATOR.integers(1, 100, 40_000).astype(np.int32),
    np.tile(np.arange(40) % 4 > 0, 1000),
    np.concatenate([[0], np.sort(GENERATOR.choice(np.arange(1, 40_000), 399, replace=False)), [40_000]]),
)
LONGEST = int(DATA.lengths.max())


def both(packed: bool, rows: list[int]) -> tuple[Batch, Batch]:
    """Of some rows the batch as it is, and rounded."""
    collator = Collator(PAD, packed, first_position=2)
    return collator.batch(DATA, rows, 0), replace(collator, longest=LONGEST).batch(DATA, rows, 0)


@pytest.mark.parametrize(
    ("size", "rounded"), [(1, 8), (8, 8), (9, 16), (127, 128), (129, 136), (1000, 1024), (2049, 2176)]
)
def test_a_size_is_rounded_up_by_a_sixteenth_at_most(size: int, rounded: int) -> None:
    assert rounded_up(size) == rounded


def test_there_are_sixteen_sizes_to_an_octave() -> None:
    assert len({rounded_up(size) for size in range(513, 1025)}) == 16


def test_packed_rows_are_followed_by_rows_of_one_token_with_nothing_to_learn() -> None:
    plain, rounded = both(True, [0, 1, 2, 3])
    assert plain.row_lengths is not None
    assert rounded.row_lengths is not None
    held = sum(plain.row_lengths)
    more = rounded_up(held) - held
    assert more > 0
    assert rounded.row_lengths == [*plain.row_lengths, *[1] * more]
    assert rounded.input_ids.tolist() == [plain.input_ids[0].tolist() + [PAD] * more]
    assert rounded.position_ids.tolist() == [plain.position_ids[0].tolist() + [2] * more]
    assert not rounded.keep[0, held:].any()


@pytest.mark.parametrize("packed", [True, False])
def test_what_is_learned_stays(packed: bool) -> None:
    for first in range(0, 400, 7):
        plain, rounded = both(packed, list(range(first, min(400, first + 7))))
        assert rounded.input_ids[rounded.keep].tolist() == plain.input_ids[plain.keep].tolist()
        assert rounded.targets.tolist() == plain.targets.tolist()
        assert (rounded.tokens, rounded.lengths) == (plain.tokens, plain.lengths)


@pytest.mark.parametrize("packed", [True, False])
def test_logits_are_computed_at_some_places_more_which_are_left_out_of_the_loss(packed: bool) -> None:
    batch = both(packed, [5, 6, 7, 8])[1]
    assert batch.computed is not None
    assert batch.labels is not None
    assert len(batch.labels) == int(batch.computed.sum()) == rounded_up(len(batch.targets)) > len(batch.targets)
    assert bool(batch.computed[batch.keep].all())
    assert batch.labels[batch.keep[batch.computed]].tolist() == batch.targets.tolist()
    assert set(batch.labels[~batch.keep[batch.computed]].tolist()) == {IGNORED}


def test_batches_of_any_rows_come_in_few_sizes() -> None:
    batches = [both(True, GENERATOR.choice(400, 8, replace=False).tolist()) for _ in range(200)]
    tokens = [len({batch[which].input_ids.numel() for batch in batches}) for which in (0, 1)]
    logits = [len({len(plain.targets) for plain, _ in batches}), len({_logits(rounded) for _, rounded in batches})]
    assert tokens[0] > 150
    assert tokens[1] <= 40
    assert logits[1] < logits[0] / 3


def _logits(batch: Batch) -> int:
    return len(batch.targets if batch.labels is None else batch.labels)


def test_padded_rows_do_not_become_longer_than_allowed() -> None:
    row = Example(np.arange(1, 31, dtype=np.int32), np.zeros(0, np.int32), np.zeros(30, bool))
    assert Collator(PAD, False, longest=30).lay_out([row]).input_ids.shape == (1, 30)
    assert Collator(PAD, False, longest=100).lay_out([row]).input_ids.shape == (1, 32)


def test_no_rows_have_no_logits_either() -> None:
    batch = Collator(PAD, True, longest=64).batch(DATA, [], 0)
    assert (batch.tokens, batch.targets.tolist(), batch.computed) == (0, [], None)
    assert batch.input_ids.dtype == torch.int64
