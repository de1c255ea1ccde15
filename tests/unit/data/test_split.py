"""Which rows are set aside: a share, at random, groups whole."""

from collections import Counter

import numpy as np
import pytest

from tunesmith.api.load import InputError
from tunesmith.data.rows import Row
from tunesmith.data.split import held_out

ROWS: list[Row] = [{"prompt": str(i), "response": str(i + 1)} for i in range(40)]


def test_a_share_of_the_rows_is_drawn_with_the_seed() -> None:
    mask = held_out(ROWS, 0.25, None, seed=0)
    assert mask.sum() == 10
    assert mask.tolist() == held_out(iter(ROWS), 0.25, None, seed=0).tolist() != held_out(ROWS, 0.25, None, 1).tolist()


@pytest.mark.parametrize(("fraction", "empty"), [(0.01, "validation"), (0.999, "training")])
def test_a_split_that_leaves_nothing_is_refused(fraction: float, empty: str) -> None:
    with pytest.raises(InputError) as refused:
        held_out(ROWS, fraction, None, seed=0)
    message = f"spec.dataset.validation.fraction: {fraction} of 40 rows leaves no {empty} row; choose another fraction"
    assert str(refused.value) == message


@pytest.mark.parametrize("seed", range(30))
def test_a_group_stands_on_one_side_and_the_share_still_holds(seed: int) -> None:
    random = np.random.default_rng(seed)
    prompts = random.geometric(random.uniform(0.02, 0.3), size=500)
    rows: list[Row] = [{"prompt": {"text": int(p)}, "answer": i} for i, p in enumerate(prompts)]
    mask = held_out(rows, 0.2, "prompt", seed)
    assert not set(prompts[mask]) & set(prompts[~mask])
    smallest_left = min(Counter(prompts[~mask].tolist()).values())
    assert abs(int(mask.sum()) - 100) <= smallest_left / 2, "no other group would have come nearer"


def test_groups_are_drawn_with_the_seed() -> None:
    rows: list[Row] = [{"topic": i // 4} for i in range(200)]
    first, again, other = (held_out(rows, 0.1, "topic", seed).tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert sum(first) == 20


def test_groups_of_a_single_row_are_a_plain_split() -> None:
    assert held_out(ROWS, 0.1, "prompt", 3).sum() == 4


def test_a_single_group_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"0\.5 of 10 rows in 1 groups leaves no validation row"):
        held_out([{"topic": "all"}] * 10, 0.5, "topic", 0)


def test_a_column_that_is_not_there_is_one_line() -> None:
    with pytest.raises(InputError) as refused:
        held_out(ROWS, 0.1, "topic", 0)
    message = "spec.dataset.validation.groupBy: there is no column 'topic' to group by; the data has: prompt, response"
    assert str(refused.value) == message
