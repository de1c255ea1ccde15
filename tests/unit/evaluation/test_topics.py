"""Rows are grouped by what they are about, and only where there are enough of them."""

import numpy as np
import pytest

from tunesmith.evaluation.topics import telling_words, topics_of

ANIMALS = [f"what does the {animal} eat" for animal in ("cat", "dog", "cow", "hen", "pig", "cat", "dog")]
SUMS = [f"add the numbers {n} and {n + 1}" for n in range(9)]


def vectors(*sizes: int, spread: float = 0.05) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Points around as many corners as there are sizes."""
    draw = np.random.default_rng(0)
    return np.concatenate([np.eye(8)[corner] + spread * draw.normal(size=(n, 8)) for corner, n in enumerate(sizes)])


def test_groups_are_those_that_lie_apart_and_have_names() -> None:
    topics = topics_of([*ANIMALS, *SUMS], vectors(7, 9), most=8)
    assert [topic.rows for topic in topics] == [list(range(7, 16)), list(range(7))]
    assert {"add", "numbers"} <= set(topics[0].name.split(", "))
    assert {"what", "does", "eat"} & set(topics[1].name.split(", "))


@pytest.mark.parametrize(("rows", "topics"), [(2, 0), (11, 0), (12, 2), (30, 2)])
def test_few_rows_make_few_topics(rows: int, topics: int) -> None:
    texts = [f"text {n}" for n in range(rows)]
    assert len(topics_of(texts, vectors(rows // 2, rows - rows // 2), most=8)) == topics


def test_rows_that_are_all_the_same_have_no_topics() -> None:
    assert topics_of(["same"] * 40, np.ones((40, 4)), 8) == []


def test_names_fall_back_to_numbers_and_pairs_of_letters() -> None:
    assert telling_words(["1 + 2", "3 + 4"], [[0], [1]]) == ["1, 2", "3, 4"]
    assert telling_words(["", ""], [[0], [1]]) == ["topic 1", "topic 2"]
    chinese = telling_words(["天气怎么样", "天气很好", "苹果多少钱", "苹果很甜"], [[0, 1], [2, 3]])
    assert chinese[0].startswith("天气") and chinese[1].startswith("苹果")
