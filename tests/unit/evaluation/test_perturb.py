"""Small changes of a prompt, after which it still asks the same."""

import re
import subprocess
import sys
import unicodedata

import pytest

from tunesmith.evaluation.perturb import Change, changed

CHANGES: tuple[Change, ...] = ("case", "typos", "order")
STORY = "Natalia sold 48 clips to Dr. Smith. How many clips did she sell? She sold 3.5 times as many in May."
TEXTS = [
    STORY,
    "12 + 30 =",
    "a",
    "",
    "小明有三十五个苹果。他吃了两个\uff01还剩几个\uff1f",
    "ราคาของแอปเปิ้ลสองลูกคือเท่าไร",
    "नमस्ते दुनिया। आप कैसे हैं?",
    "مرحبا كيف حالك؟ كم عدد التفاحات؟",
    "😀👩\u200d👩\u200d👧 hello there. What is {prompt} here?",
    "first line\nsecond line\n\nthird x2 line",
]


def numbers(text: str) -> list[str]:
    """All that has a numeric value, in any script."""
    return [char for char in text if unicodedata.numeric(char, None) is not None]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("text", TEXTS)
def test_numbers_stay_as_they_are_and_so_does_what_is_drawn(text: str, change: Change) -> None:
    other = changed(text, change, 0.5)
    assert sorted(numbers(other)) == sorted(numbers(text))
    assert changed(text, change, 0.5) == other
    if change != "order":
        assert numbers(other) == numbers(text)


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        (STORY, "case", STORY.swapcase()),
        (
            STORY,
            "typos",
            "Natalia sold 48 clips to Dr. Smith. How mny clips did she sell? She sold 3.5 times as mny in May.",
        ),
        (
            STORY,
            "order",
            "She sold 3.5 times as many in May. How many clips did she sell? Natalia sold 48 clips to Dr. Smith.",
        ),
        (TEXTS[4], "order", "还剩几个\uff1f他吃了两个\uff01小明有三十五个苹果。"),
    ],
)
def test_what_a_change_makes_of_a_text_is_shown(text: str, change: Change, expected: str) -> None:
    assert changed(text, change, 0.2) == expected


def test_another_process_draws_the_same() -> None:
    code = f"from tunesmith.evaluation.perturb import changed; print(ascii(changed({STORY!r}, 'typos', 0.5)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == ascii(changed(STORY, "typos", 0.5))


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 1.0])
def test_the_share_of_words_with_a_typo_is_as_asked_and_one_at_least(rate: float) -> None:
    words = [f"w{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10 % 10]}rd" for i in range(100)]
    other = changed(" ".join(words), "typos", rate).split(" ")
    differing = [(word, typo) for word, typo in zip(words, other, strict=True) if word != typo]
    assert len(differing) == max(1, round(100 * rate))
    assert all(abs(len(word) - len(typo)) <= 1 and typo[0] == "w" for word, typo in differing)


@pytest.mark.parametrize("text", ["12 + 30 =", "is it 5 or 7", "x2y4z a1b2", "三十五", "😀😀😀😀😀", "a b", "哈哈哈"])
def test_what_has_no_word_that_could_have_a_typo_stays_as_it_is(text: str) -> None:
    assert changed(text, "typos", 1.0) == text


def test_scripts_without_spaces_keep_all_their_letters() -> None:
    text = "天气很好我们出去玩"
    other = changed(text, "typos", 1.0)
    assert other != text and sorted(other) == sorted(text)


@pytest.mark.parametrize(
    "text",
    ["One sentence only.", "12 + 30 =", "Ask Dr. Smith", "See e.g. this", "by J. Smith", "3.5 is more", "Same. Same."],
)
def test_a_single_sentence_stays_in_order(text: str) -> None:
    assert changed(text, "order", 0.1) == text


@pytest.mark.parametrize("text", [STORY, *TEXTS[4:5], *TEXTS[6:8], TEXTS[9]])
def test_sentences_change_places_and_none_is_lost(text: str) -> None:
    other = changed(text, "order", 0.1)
    assert other != text and sorted(re.sub(r"\s", "", other)) == sorted(re.sub(r"\s", "", text))


def test_long_texts_take_no_time() -> None:
    for text in (
        "x" * 20_000,
        "天" * 20_000,
        "天地" * 10_000,
        "word more. " * 2_000,
        "." * 20_000,
        " " * 20_000,
        "\n" * 20_000,
    ):
        for change in CHANGES:
            changed(text, change, 0.1)
