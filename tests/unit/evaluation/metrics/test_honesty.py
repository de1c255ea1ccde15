"""No text crashes a metric, takes long, or scores well without being right."""

import time

import pytest

from tunesmith.api.load import InputError
from tunesmith.evaluation.metrics.base import TextMetric
from tunesmith.evaluation.metrics.classes import MOST_CLASSES
from tunesmith.evaluation.scorers import TEXT_METRICS

NAMES = sorted(TEXT_METRICS)
LONG = "a b c d e f g h i j " * 1000
"""20,000 characters of few words: the worst case for subsequences."""
NUMBERS = " ".join(map(str, range(4100)))
"""20,000 characters of words that all differ."""
SCRIPTS = [
    "今天天气很好\uff0c我们去公园 12 号。",
    "สวัสดีชาวโลก ๑๒",
    "مرحبا بالعالم ١٢",
    "नमस्ते दुनिया १२",
    "Привет, мир 12",
    "👩‍👩‍👧 👍🏽 12 ok",
]
OTHERS = ["昨夜下了大雨 7", "ลาก่อน ๗", "وداعا \u0667", "अलविदा ७", "Пока 7", "😀 7"]
HIGHEST = {"bleu": 100.0, "chrf": 100.0}


def metric_of(name: str) -> TextMetric:
    return next(make for metric, make in TEXT_METRICS.items() if metric == name)()


def score(name: str, answer: str | None, reference: str) -> float:
    metric = metric_of(name)
    return float(metric.measure(metric.parts([answer], [reference]).sum(axis=0))) / HIGHEST.get(name, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_the_name_that_specs_use(name: str) -> None:
    assert metric_of(name).label == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", ["", " \n\t", None], ids=["empty", "white space", "no room"])
def test_no_answer_scores_nothing(name: str, answer: str | None) -> None:
    assert score(name, answer, "the answer is 12") == 0


@pytest.mark.parametrize("name", NAMES)
def test_without_room_even_an_empty_reference_is_missed(name: str) -> None:
    assert score(name, None, "") == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", ["the answer is 12", "...", "👍", LONG], ids=["words", "dots", "emoji", "long"])
def test_an_answer_where_none_is_right_scores_nothing(name: str, answer: str) -> None:
    assert score(name, answer, "") == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("answer", "reference"), list(zip(OTHERS, SCRIPTS, strict=True)))
def test_another_text_of_any_script_does_not_score_well(name: str, answer: str, reference: str) -> None:
    assert score(name, answer, reference) < 0.35


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", SCRIPTS)
def test_the_same_text_of_any_script_scores_best(name: str, text: str) -> None:
    """But for what a metric cannot see: METEOR takes a little for every text."""
    assert score(name, text, text) == pytest.approx(1, abs=0.51 if name == "meteor" else 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_long_rows_take_bounded_time_and_do_not_score_well(name: str) -> None:
    started = time.process_time()
    for answer, reference in ((LONG, NUMBERS), (NUMBERS, LONG), (LONG, "the answer is 12"), ("12 " * 6600, NUMBERS)):
        assert score(name, answer, reference) < 0.35
    assert score(name, LONG, LONG) > 0.9 or name == "numericMatch"
    lines = LONG.replace(" ", "\n"), NUMBERS.replace(" ", "\n")
    assert score(name, *lines) < 0.35
    assert time.process_time() - started < 10


def test_texts_are_no_classes() -> None:
    references = [f"text {row}" for row in range(MOST_CLASSES + 1)]
    with pytest.raises(InputError, match=r"spec.evaluation.metrics: accuracy, macroF1 and microF1 are for classes, of"):
        metric_of("accuracy").rows(references, references)


def test_bleu_says_where_it_sees_no_words() -> None:
    bleu = metric_of("bleu")
    bleu.rows(SCRIPTS, SCRIPTS)
    assert bleu.warnings == ["bleu takes a run of letters for one word, and 2 references have no spaces; look at chrf"]
