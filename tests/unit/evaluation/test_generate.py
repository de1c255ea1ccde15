"""Where an answer ends."""

import pytest

from tunesmith.evaluation.generate import until_stop

EOS, END_OF_TURN, PAD = 2, 7, 0


@pytest.mark.parametrize(
    ("new", "answer", "stopped"),
    [
        pytest.param([5, 6, EOS], [5, 6], True, id="the end is the last token"),
        pytest.param([5, 6, EOS, PAD, PAD], [5, 6], True, id="padding after the end"),
        pytest.param([5, END_OF_TURN, 6, EOS], [5], True, id="the first of several ends"),
        pytest.param([EOS, 5, 6], [], True, id="an end at once"),
        pytest.param([5, 6, 8], [5, 6, 8], False, id="no end: every token counts"),
        pytest.param([5, PAD, EOS], [5, PAD], True, id="a padding token before the end is an answer's"),
        pytest.param([], [], False, id="nothing"),
    ],
)
def test_an_answer_is_all_before_its_end_and_nothing_after(new: list[int], answer: list[int], stopped: bool) -> None:
    assert until_stop(new, {EOS, END_OF_TURN}) == (answer, stopped)
