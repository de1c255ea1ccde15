"""Answers beside references, in any script."""

import time

import pytest

from tunesmith.evaluation.metrics.words import exact_match, token_f1, words


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        pytest.param("146", "146", 1, id="the same"),
        pytest.param(" 146\n", "146", 1, id="white space around"),
        pytest.param("146", "14", 0, id="one character too many"),
        pytest.param("46", "146", 0, id="one character too few"),
        pytest.param("Paris", "paris", 0, id="case counts"),
        pytest.param("Paris.", "Paris", 0, id="punctuation counts"),
        pytest.param("a  b", "a b", 0, id="white space within counts"),
        pytest.param("caf\u00e9", "cafe\u0301", 1, id="composed and decomposed"),
        pytest.param("\uff11\uff12", "12", 0, id="full width is another text"),
        pytest.param("", "", 1, id="nothing for nothing"),
        pytest.param(" ", "", 1, id="white space for nothing"),
        pytest.param("", "146", 0, id="no answer"),
        pytest.param("146", "", 0, id="an answer where none is right"),
        pytest.param("👍🏽", "👍", 0, id="another emoji"),
    ],
)
def test_exact_match(answer: str, reference: str, score: float) -> None:
    assert exact_match(answer, reference) == score


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("The cat, the CAT!", ["the", "cat", "the", "cat"], id="case and punctuation"),
        pytest.param("well-known/unknown", ["well", "known", "unknown"], id="punctuation separates"),
        pytest.param("don't don\u2019t", ["dont", "dont"], id="apostrophes of both kinds"),
        pytest.param("'quoted'", ["quoted"], id="quotes are no apostrophes"),
        pytest.param("-5 and \u22125", ["-5", "and", "-5"], id="a sign stays, however it is written"),
        pytest.param("3.5, 1,000. 12:30", ["3.5", "1,000", "12:30"], id="punctuation inside numbers stays"),
        pytest.param("7 - 5 = 2", ["7", "5", "=", "2"], id="a hyphen alone is none; symbols are words"),
        pytest.param("x-5 3D 4th", ["x", "5", "3d", "4th"], id="letters and digits"),
        pytest.param("$5 50%", ["$", "5", "50"], id="currency"),
        pytest.param("STRASSE straße", ["strasse", "strasse"], id="case folding"),
        pytest.param("今天天气", ["今", "天", "天", "气"], id="Chinese"),
        pytest.param("東京タワー!", ["東", "京", "タ", "ワ", "ー"], id="Japanese"),
        pytest.param("서울 시청", ["서울", "시청"], id="Korean has spaces"),
        pytest.param("हिन्दी भाषा", ["हिन्दी", "भाषा"], id="Devanagari words keep their vowel signs"),
        pytest.param("مرحبا بالعالم؟", ["مرحبا", "بالعالم"], id="Arabic, with its question mark"),
        pytest.param("กิน", ["กิ", "น"], id="Thai"),
        pytest.param("\uff21\uff22\uff11", ["ab1"], id="full width"),
        pytest.param("😀 ❤\ufe0f❤", ["😀", "❤", "❤"], id="emoji, with and without a variation selector"),
        pytest.param("?! … 。", [], id="only punctuation"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        pytest.param("the cat sat", "the cat sat", 1, id="the same"),
        pytest.param("cat the sat", "The cat sat.", 1, id="order and case do not count"),
        pytest.param("the cat", "the cat sat", 2 * 2 / 5, id="two of three"),
        pytest.param("yes yes yes yes", "yes", 2 * 1 / 5, id="repetition does not pay"),
        pytest.param("dog", "the cat sat", 0, id="nothing in common"),
        pytest.param("-5", "5", 0, id="the sign counts"),
        pytest.param("3.5", "35", 0, id="the point counts"),
        pytest.param("A", "B", 0, id="a choice is no article"),
        pytest.param("", "the cat", 0, id="no answer"),
        pytest.param("the cat", "", 0, id="an answer where none is right"),
        pytest.param("", "", 1, id="nothing for nothing"),
        pytest.param("...", "!!!", 0, id="as empty of words as the reference"),
        pytest.param("。", "?", 0, id="as empty of words, in another script"),
        pytest.param("!!!", "!!!", 1, id="the same punctuation"),
        pytest.param("😀", "😢", 0, id="another emoji"),
        pytest.param("😀", "", 0, id="an emoji for nothing"),
        pytest.param("天气", "今天天气", 2 * 2 / 6, id="two of four characters"),
        pytest.param("\u200b", "cat", 0, id="an invisible character"),
        pytest.param("\ufffd\ufffd", "मौसम", 0, id="broken bytes"),
    ],
)
def test_token_f1(answer: str, reference: str, score: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(score)
    assert token_f1(reference, answer) == pytest.approx(score)


@pytest.mark.parametrize("piece", ["word ", "天", "😀", "9.", "'", "-", "\u0301", "a'", "\ufdfa"])
def test_long_texts_take_no_time_and_do_not_score(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    started = time.monotonic()
    assert token_f1(text, "something else") == 0
    assert token_f1(text, text) == 1
    assert time.monotonic() - started < 5
