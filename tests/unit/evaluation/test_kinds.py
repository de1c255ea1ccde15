"""What is seen to be wrong with an answer, and that nothing is made of what is only odd."""

import pytest

from tunesmith.evaluation.formats import format_of
from tunesmith.evaluation.kinds import Kind, kind_of, refuses, repeats

NUMBERS = format_of(["1", "-2", "3.5", "1,000", "7", "٣"])
LOOP = "the cat sat. " * 4


@pytest.mark.parametrize(
    ("answer", "finished", "kind"),
    [
        ("42", True, "right"),
        ("42", False, "right"),
        (None, False, "unanswered"),
        ("", True, "empty"),
        (" \n\u200b\ufeff\u0000", True, "empty"),
        ("🎉", True, "wrong format"),
        ("٤٢", True, "wrong"),  # a number all the same
        ("43", True, "wrong"),
        ("the answer is 43", True, "wrong format"),
        ("43\n44", True, "wrong format"),
        ("四十二", True, "wrong format"),
        ("4 3 5", False, "cut off"),
        (LOOP, True, "repeats"),
        ("不知道。" * 7, True, "repeats"),
        ("😂" * 30, True, "repeats"),
        ("7" * 8, False, "repeats"),
        ("7" * 8, True, "wrong"),
        ("I\u2019m sorry, but I can\u2019t help with that.", True, "refuses"),
        ("I cannot answer " * 9, False, "repeats"),
        ("x" * 20_000, False, "repeats"),
        (" ".join(map(str, range(5_000))), False, "cut off"),
    ],
)
def test_each_answer_is_of_the_first_kind_that_fits(answer: str | None, finished: bool, kind: Kind) -> None:
    assert kind_of(answer, finished, answer == "42", "42", NUMBERS) == kind


def test_what_the_reference_does_is_no_failure() -> None:
    refusal = "I don't know the answer, but Anna does."
    assert kind_of("I don't know.", True, False, refusal, None) == "wrong"
    assert kind_of(LOOP, True, False, "the dog sat. " * 9, None) == "wrong"


def test_without_a_reference_an_answer_is_not_judged() -> None:
    assert kind_of("hello", True, None, None, None) == "not judged"
    assert kind_of("", True, None, None, None) == "empty"


@pytest.mark.parametrize(
    ("answer", "loop"),
    [
        ("ha ha ha", False),
        ("no, no, no", False),
        ("1000000000", False),
        ("1. yes\n2. yes\n3. yes\n4. yes\n5. yes", False),
        ("a b c " * 7 + "a b", True),
        ("It is so. " + LOOP, True),
        (LOOP + "And then it was over, and everybody went home.", False),
        ("天地玄黄宇宙洪荒" * 2, False),
    ],
)
def test_a_loop_is_at_the_end_and_goes_round_three_times(answer: str, loop: bool) -> None:
    assert repeats(answer) is loop


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ("I cannot help with that.", True),
        ("**Sorry**, I can't", False),
        ("Sorry — I can't provide that", True),
        ("I'm afraid I won't be able", False),
        ("As an AI language model, I think", True),
        ("We are unable to say", True),
        ("I must decline.", True),
        ("I DON'T KNOW", True),
        ("'Unfortunately, I do not have access to it'", True),
        ("I can't believe it is 5", False),
        ("Sorry, it is 5", False),
        ("The man said: I'm sorry, but I can't help you.", False),
        ("It is 5. As an AI language model, I am sure.", False),
        ("Ich kann dabei nicht helfen.", False),
        ("", False),
    ],
)
def test_a_refusal_is_how_an_answer_starts(answer: str, refusal: bool) -> None:
    assert refuses(answer) is refusal


@pytest.mark.parametrize(
    ("references", "name"),
    [
        (["1", "-2", "3.5", "1,000", "$7", "20 %", ""], "a number"),
        (["yes", "no"] * 5, "one of no, yes"),
        (["1", "0"] * 5, "one of 0, 1"),
        (["so 2+3=5\n#### 5", "#### 1,000", "a\nb #### -3"] * 2, "a last line of #### and a number"),
        (['{"a": 1, "b": 2}', '{"a": [1]}'] * 3, "a JSON object with a"),
        (["[1]", "[]", "[2]", "[3]", "[4]", "[5]"], "a JSON array"),
        (["Paris", "Rome", "天气", "🎉", "Bern", "Oslo"], "a single line"),
        (["a\nb", "Rome", "c", "d", "e", "f"], None),
        (["1"] * 5, None),
        (["", " "] * 9, None),
        ([], None),
    ],
)
def test_the_narrowest_format_of_all_references_is_found(references: list[str], name: str | None) -> None:
    found = format_of(references)
    assert (found and found.name) == name
    assert found is None or all(found.fits(text) for text in references if text)


@pytest.mark.parametrize(
    ("references", "answer", "fits"),
    [
        (["yes", "no"] * 5, " yes\n", True),
        (["yes", "no"] * 5, "Yes", False),
        (["#### 5"] * 2 + ["#### 1", "#### 2", "#### 3", "#### 4"], "5", False),
        (['{"a": 1}'] * 3 + ['{"a": 2}', '{"a": 3}', '{"a": 4}'], '{"b": 1}', False),
        (['{"a": 1}'] * 3 + ['{"a": 2}', '{"a": 3}', '{"a": 4}'], '{"a": 9, "b": 1}', True),
        (['{"a": 1}'] * 3 + ['{"a": 2}', '{"a": 3}', '{"a": 4}'], "[" * 20_000, False),
        (["Paris", "Rome", "Bern", "Oslo", "Wien", "Prag"], "Paris\nis it", False),
    ],
)
def test_an_answer_fits_or_not(references: list[str], answer: str, fits: bool) -> None:
    found = format_of(references)
    assert found is not None and found.fits(answer) is fits
