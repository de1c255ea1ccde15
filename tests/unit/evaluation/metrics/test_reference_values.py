"""Our metrics give what the reference implementations give, and what their authors have published."""

import random
from typing import Any

import numpy as np
import pytest
from nltk.translate.meteor_score import single_meteor_score
from rouge_score import rouge_scorer
from sacrebleu import corpus_bleu, corpus_chrf
from sklearn.metrics import accuracy_score, f1_score

from tunesmith.evaluation.metrics.base import TextMetric
from tunesmith.evaluation.metrics.classes import Accuracy, MacroF1, MicroF1
from tunesmith.evaluation.metrics.meteor import Meteor
from tunesmith.evaluation.metrics.rouge import Rouge1, Rouge2, RougeL, RougeLsum, RougeW, summary_f1, weighted_f1
from tunesmith.evaluation.metrics.subsequences import common_length, common_places
from tunesmith.evaluation.metrics.translation import Bleu, Chrf
from tunesmith.evaluation.metrics.words import words
from tunesmith.evaluation.statistics import estimate

DOG = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
DOG_REFERENCES = ["The dog bit the man.", "It was not unexpected.", "The man bit him first."]
"""Of sacrebleu's README."""


def value(metric: TextMetric, answers: list[str], references: list[str]) -> float:
    """As a user of `evaluate` has it."""
    return float(metric.compute(predictions=answers, references=references)[metric.label])


def random_texts(rows: int, longest: int, seed: int) -> tuple[list[str], list[str]]:
    """Of few words, so that much is shared; with lines and punctuation."""
    chance = random.Random(seed)
    pool = ["the", "cat", "sat", "on", "a", "mat", "didn't", "3.5", "U.S.", "well-known,", "ran.\n", "dogs\n", "x"]

    def draw() -> str:
        return " ".join(chance.choices(pool, k=chance.randrange(longest)))

    return [draw() for _ in range(rows)], [draw() for _ in range(rows)]


def test_bleu_of_the_whole_set_is_sacrebleus() -> None:
    assert value(Bleu(), DOG, DOG_REFERENCES) == corpus_bleu(DOG, [DOG_REFERENCES]).score
    answers, references = random_texts(200, 30, seed=1)
    assert value(Bleu(), answers, references) == corpus_bleu(answers, [references]).score


def test_chrf_of_the_whole_set_is_sacrebleus() -> None:
    answers, references = random_texts(200, 30, seed=2)
    assert value(Chrf(), answers, references) == corpus_chrf(answers, [references]).score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        pytest.param("", "", 0.0, id="nothing"),
        pytest.param("", "aa", 0.0, id="no answer"),
        pytest.param("aa", "", 0.0, id="no reference"),
        pytest.param(
            "Niemand hat die Absicht, eine Mauer zu errichten",
            "Niemand hat die Absicht, eine Mauer zu errichten",
            100.0,
            id="the same",
        ),
        pytest.param("Das ist ein Test", "Das war ein Test", None, id="another word"),
    ],
)
def test_chrf_of_single_texts(answer: str, reference: str, score: float | None) -> None:
    expected = corpus_chrf([answer], [[reference]]).score if score is None else score
    assert value(Chrf(), [answer], [reference]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "score"),
    [
        pytest.param(Rouge1, "testing", "testing one two", 1 / 2, id="rouge1"),
        pytest.param(Rouge2, "testing one", "testing one two", 2 / 3, id="rouge2"),
        pytest.param(RougeL, "testing one", "testing one two", 4 / 5, id="rougeL, neighbours"),
        pytest.param(RougeL, "testing two", "testing one two", 4 / 5, id="rougeL, apart"),
        pytest.param(RougeLsum, "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 0.5333, id="the paper's union"),
        pytest.param(
            RougeLsum, "Second sentence.\nFirst Sentence.", "First sentence.\nSecond Sentence.", 1, id="sentences"
        ),
        pytest.param(
            RougeLsum, "Second sentence. First Sentence.", "First sentence. Second Sentence.", 0.5, id="a line"
        ),
        pytest.param(RougeLsum, "/", "w1 w2 w3 w4 w5", 0, id="no words"),
    ],
)
def test_rouge_gives_the_values_of_rouge_scores_own_tests(
    metric: type[TextMetric], answer: str, reference: str, score: float
) -> None:
    assert value(metric(), [answer], [reference]) == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "metric"), [("rouge1", Rouge1), ("rouge2", Rouge2), ("rougeL", RougeL), ("rougeLsum", RougeLsum)]
)
def test_rouge_is_rouge_scores_on_ascii(kind: str, metric: type[TextMetric]) -> None:
    answers, references = random_texts(150, 60, seed=3)
    scorer = rouge_scorer.RougeScorer([kind])
    expected = [scorer.score(r, a)[kind].fmeasure for a, r in zip(answers, references, strict=True)]
    assert metric().rows(answers, references).of_rows().tolist() == expected


def test_common_subsequences_are_those_that_rouge_score_finds() -> None:
    chance = random.Random(4)
    for _ in range(300):
        one, other = ([chance.randrange(4) for _ in range(chance.randrange(1, 90))] for _ in range(2))
        assert common_places(one, other)[::-1] == rouge_scorer.lcs_ind(one, other)
        assert common_length(one, other) == len(rouge_scorer.lcs_ind(one, other))


def test_the_union_of_sentences_is_the_papers() -> None:
    assert summary_f1([[1, 2, 6, 7, 8], [1, 3, 8, 9, 5]], [[1, 2, 3, 4, 5]]) == pytest.approx(2 * 0.4 * 0.8 / 1.2)


def test_rouge_w_gives_the_papers_example() -> None:
    """Section 3.3: both answers have a subsequence of four, and with f(k) = k^2 the one in a row is worth more."""
    assert weighted_f1([("ABCDHIK", "ABCDEFG"), ("AHBKCID", "ABCDEFG")], 2) == pytest.approx([0.571, 0.286], abs=5e-4)


def naive_weighted(one: list[str], other: list[str], weight: float) -> float:
    """The paper's algorithm, cell by cell."""
    scores = np.zeros((len(one) + 1, len(other) + 1))
    runs = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            if a == b:
                run = runs[i - 1, j - 1]
                scores[i, j] = scores[i - 1, j - 1] + (run + 1) ** weight - run**weight
                runs[i, j] = run + 1
            else:
                scores[i, j] = max(scores[i - 1, j], scores[i, j - 1])
    return float(scores[-1, -1])


def test_rouge_w_is_the_papers_algorithm_for_any_lengths_at_once() -> None:
    answers, references = random_texts(100, 25, seed=5)
    pairs = [(words(a), words(r)) for a, r in zip(answers, references, strict=True)]
    found = weighted_f1(pairs, 1.2)
    for (given, expected), score in zip(pairs, found, strict=True):
        if given and expected:
            length = naive_weighted(given, expected, 1.2) ** (1 / 1.2)
            precision, recall = length / len(given), length / len(expected)
            both = precision + recall
            assert score == pytest.approx(2 * precision * recall / both if both else 0)
        else:
            assert score == 0


def test_words_apart_are_worth_less_by_rouge_w_than_by_rouge_l() -> None:
    answers, references = random_texts(50, 25, seed=6)
    of_runs, of_all = (metric().rows(answers, references).of_rows() for metric in (RougeW, RougeL))
    assert (of_runs <= of_all + 1e-12).all()
    assert (of_runs < of_all).any()


def test_meteor_gives_the_published_example_of_nltk() -> None:
    answer = "It is a guide to action which ensures that the military always obeys the commands of the party"
    reference = "It is a guide to action that ensures that the military will forever heed Party commands"
    assert value(Meteor(), [answer], [reference]) == pytest.approx(0.6944, abs=5e-5)
    assert value(Meteor(), ["non matching hypothesis"], ["this is a cat"]) == 0


def test_meteor_is_nltks_on_words() -> None:
    answers, references = random_texts(100, 30, seed=7)
    metric: Any = Meteor()
    none: Any = type("NoWordNet", (), {"synsets": staticmethod(lambda word: [])})
    synonyms = none if "without" in metric.settings["meteor"] else metric._synonyms
    pairs = list(zip(answers, references, strict=True))
    expected = [single_meteor_score(words(r), words(a), wordnet=synonyms) for a, r in pairs]
    assert metric.rows(answers, references).of_rows().tolist() == expected


def test_classes_are_counted_as_by_scikit_learn() -> None:
    chance = random.Random(8)
    references = chance.choices(["cat", "dog", "bird"], weights=[6, 3, 1], k=300)
    answers = [r if chance.random() < 0.6 else chance.choice(["cat", "dog", "bird", "fish", ""]) for r in references]
    classes = sorted(set(references))
    assert value(Accuracy(), answers, references) == accuracy_score(references, answers)
    for metric, average in ((MacroF1, "macro"), (MicroF1, "micro")):
        expected = f1_score(references, answers, labels=classes, average=average)
        assert value(metric(), answers, references) == pytest.approx(expected, abs=1e-12)


def test_a_class_that_a_draw_lacks_does_not_count_as_missed() -> None:
    """Of rows that are all right, every draw is right too: the interval has no width."""
    references = ["common"] * 30 + ["rare"]
    interval = estimate(MacroF1().rows(references, references)).tuned
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


@pytest.mark.parametrize("metric", [Bleu, Chrf, MacroF1, RougeL], ids=lambda metric: metric.__name__)
def test_a_draw_of_rows_has_the_value_that_these_rows_alone_have(metric: type[TextMetric]) -> None:
    """What the bootstrap does with sums is what the library does with rows."""
    answers, references = random_texts(40, 12, seed=9)
    if metric is MacroF1:
        answers, references = [a[:1] for a in answers], [r[:1] for r in references]
    drawn = np.random.default_rng(0).integers(40, size=40)
    parts = metric().parts(answers, references)
    some = [answers[row] for row in drawn], [references[row] for row in drawn]
    found = float(metric().measure(parts[drawn].sum(axis=0)))
    assert found == pytest.approx(value(metric(), *some))
