"""The number that counts as an answer."""

from fractions import Fraction

import pytest

from tunesmith.evaluation.metrics.numbers import last_number
from tunesmith.evaluation.metrics.overlap import NumericMatch


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("6 + 6 = <<6+6=12>>12\n#### 12", 12, id="GSM8K's own form"),
        pytest.param("#### 1,234", 1234, id="thousands"),
        pytest.param("#### 12,345,678.5", Fraction("12345678.5"), id="millions with a decimal"),
        pytest.param("1,00,000", 100_000, id="thousands as in India"),
        pytest.param("1\u202f234 or 1\u00a0234", 1234, id="thousands apart by narrow spaces"),
        pytest.param("a 12 and 345", 345, id="an ordinary space separates"),
        pytest.param("(3,5)", 5, id="a comma that groups nothing separates"),
        pytest.param("1,2,", 2, id="a comma after it"),
        pytest.param("It costs $5.00.", 5, id="currency, decimals, a full stop"),
        pytest.param("5 kg", 5, id="a unit"),
        pytest.param("5kg", 5, id="a unit without a space"),
        pytest.param("50%", 50, id="per cent"),
        pytest.param("-5", -5, id="a sign"),
        pytest.param("\u22125", -5, id="the minus of typesetters"),
        pytest.param("-$5", -5, id="a sign before the currency"),
        pytest.param("$-5", -5, id="a sign after the currency"),
        pytest.param("+5", 5, id="a plus"),
        pytest.param("7-5", 5, id="a difference"),
        pytest.param("7 - 5", 5, id="a difference with spaces"),
        pytest.param("(2)-3", 3, id="a difference after a bracket"),
        pytest.param("COVID-19", 19, id="a hyphen"),
        pytest.param(".5", Fraction(1, 2), id="without a leading zero"),
        pytest.param("-.5", Fraction(-1, 2), id="without a leading zero, with a sign"),
        pytest.param("0.10", Fraction(1, 10), id="a trailing zero"),
        pytest.param("3.", 3, id="a full stop alone"),
        pytest.param("1.5e3", 1500, id="an exponent"),
        pytest.param("3/4", Fraction(3, 4), id="a fraction"),
        pytest.param("1 1/2 cups", Fraction(3, 2), id="a mixed number"),
        pytest.param("½", Fraction(1, 2), id="a fraction of one character"),
        pytest.param("2½", Fraction(5, 2), id="a mixed number of two characters"),
        pytest.param(r"$\frac{3}{4}$", Fraction(3, 4), id="a fraction of LaTeX"),
        pytest.param(r"\boxed{42}", 42, id="a box of LaTeX"),
        pytest.param("05/06/2024", 2024, id="a date is no fraction"),
        pytest.param("1/0", None, id="no fraction"),
        pytest.param("\uff11\uff12\uff0c\uff13\uff14\uff15", 12345, id="full width"),
        pytest.param("\u0661\u0662", 12, id="Arabic digits"),
        pytest.param("答案是-5个", -5, id="no spaces"),
        pytest.param("10 m2 of H2O", 10, id="digits of words"),
        pytest.param("no number, 👍", None, id="none"),
        pytest.param("", None, id="nothing"),
        pytest.param("9" * 20_000, None, id="longer than any number"),
    ],
)
def test_the_last_number_of_a_text(text: str, number: Fraction | int | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        pytest.param("So she pays $1,234.00 in all.", "#### 1234", 1, id="the same number, written otherwise"),
        pytest.param("12 apples, that is 13", "#### 12", 0, id="an earlier number does not count"),
        pytest.param("1234", "#### 123", 0, id="a digit too many"),
        pytest.param("123", "#### 1234", 0, id="a digit too few"),
        pytest.param("234", "#### 1,234", 0, id="the end of the number"),
        pytest.param("-5", "#### 5", 0, id="another sign"),
        pytest.param("0.5", "#### 5", 0, id="another magnitude"),
        pytest.param("", "#### 5", 0, id="no answer"),
        pytest.param("none", "none", 0, id="no number on either side"),
        pytest.param("5", "", 0, id="no reference"),
    ],
)
def test_numeric_match(answer: str, reference: str, score: float) -> None:
    assert NumericMatch().score(answer, reference) == score
