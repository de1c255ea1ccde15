"""How often a reward model prefers what people prefer, on test pairs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Interval
from tunesmith.data.examples import halves
from tunesmith.data.pairs import Pair, encode_pairs, pairs_of
from tunesmith.data.rows import Row
from tunesmith.evaluation.batches import in_batches
from tunesmith.evaluation.statistics import RowScores, estimate, mean_share
from tunesmith.evaluation.work import Work
from tunesmith.models.reward import score_texts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TestPairs:
    """Test pairs as training would see them."""

    __test__ = False  # no test case, whatever pytest thinks of the name

    pairs: list[Pair]
    texts: dict[int, list[list[int]]]
    """Tokens of both texts of each pair, by its number; those without room for an answer, and those of which both are
    the same, are missing."""
    truncated: int

    @property
    def prompts(self) -> list[str]:
        """Of each pair."""
        return [pair.prompt for pair in self.pairs]

    @property
    def texts_of_rows(self) -> list[dict[str, str]]:
        """For people."""
        return [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in self.pairs]


def read_test_pairs(rows: Iterable[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> TestPairs:
    """Makes and tokenizes test pairs.

    Raises:
        InputError: a row is not as it should be, or nothing is left.
    """
    pairs = list(pairs_of(rows, spec, tokenizer))
    texts, truncated = {}, 0
    for number, pair in enumerate(pairs):
        encoded = encode_pairs([pair], spec, tokenizer)
        truncated += encoded.truncated
        if len(encoded):
            texts[number] = [half.inputs.tolist() for half in halves(*encoded.row(0))]
    if not texts:
        message = f"none of {len(pairs)} pairs has two different answers within training.maxLength"
        raise InputError(Problem(message, "spec.dataset.test"))
    return TestPairs(pairs, texts, truncated)


def pair_work(test: TestPairs, tokenizer: PreTrainedTokenizerBase, size: int) -> Work:
    """The scores of both answers of each pair that is not left out."""
    longest_first = sorted(test.texts, key=lambda number: -max(map(len, test.texts[number])))
    return Work(
        name="pairs",
        items=longest_first,
        size=size,
        facts=[sorted(test.texts.items()), tokenizer.pad_token_id],
        do=partial(_score_pairs, test.texts, tokenizer),
    )


def _score_pairs(
    texts: dict[int, list[list[int]]],
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    pairs: list[int],
    size: int,
    keep: Callable[[dict[int, list[float]]], None],
) -> int:
    def work(some: list[int]) -> None:
        both = [text for number in some for text in texts[number]]
        scores = score_texts(model, both, tokenizer).double().reshape(-1, 2).tolist()
        keep(dict(zip(some, scores, strict=True)))

    return in_batches(pairs, size, work)


def pair_scores(test: TestPairs, found: dict[int, list[float]]) -> Floats:
    """The scores of both answers of each pair; [pairs, 2], NaN for a pair that is left out."""
    scores = np.full((len(test.pairs), 2), np.nan)
    for number, both in found.items():
        scores[number] = both
    return scores


def preferred(scores: Floats) -> Floats:
    """1 where the first of two numbers is higher, 0.5 where they are equal, else 0; NaN stays.

    Args:
        scores: [pairs, 2].

    Returns:
        [pairs].
    """
    ahead = scores[:, 0] - scores[:, 1]
    right: Floats = np.where(np.isnan(ahead), np.nan, (np.sign(ahead) + 1) / 2)
    return right


def by_prompt(right: Floats, prompts: Sequence[str]) -> RowScores:
    """The right pairs of each prompt, and how many it has: what is drawn again is a prompt, since its pairs are alike.

    Args:
        right: of each pair; NaN for one that is left out.
        prompts: of each pair.
    """
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(prompt, len(numbers)) for prompt in prompts])
    counted = ~np.isnan(right)
    sums, weights = (
        np.bincount(groups[counted], values[counted], minlength=len(numbers)).astype(np.float64)
        for values in (right, np.ones(len(right)))
    )
    return mean_share(sums, weights)


def longer_answer_accuracy(test: TestPairs) -> Interval:
    """How often the preferred answer has more characters: what a reward model must beat."""
    lengths = np.array([[len(pair.chosen), len(pair.rejected)] for pair in test.pairs], np.float64)
    lengths[[number not in test.texts for number in range(len(lengths))]] = np.nan
    return estimate(by_prompt(preferred(lengths), test.prompts)).tuned
