"""What is known of the data before training starts, for people."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.data.mixture import shares
from tunesmith.data.tokenized import TokenizedRows

BINS = 24

Hashes = NDArray[np.uint64]
"""Of rows' tokens. Among a billion rows, two that differ have the same one with a probability of 3%."""


@dataclass
class Part:
    """What was made of some rows."""

    rows: int = 0
    tokens: int = 0
    learned_tokens: int = 0
    truncated: int = 0
    dropped: int = 0
    equal: int = 0
    """Pairs whose answers are the same, left out."""
    overlapping: int = 0
    """Rows that are validated on or tested with too, left out or not."""
    packed_hashes: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def hashes(self) -> Hashes:
        """Of every row; shape [rows]."""
        return np.frombuffer(self.packed_hashes, np.uint64)

    def add(self, rows: TokenizedRows, hashes: Hashes) -> None:
        """Counts rows in."""
        self.rows += len(rows)
        self.tokens += len(rows.tokens)
        self.learned_tokens += int(rows.targets.sum())
        self.packed_hashes.frombytes(hashes.tobytes())


@dataclass(frozen=True)
class SetSummary:
    """One set of training rows."""

    source: str
    rows: int
    tokens: int
    learned_tokens: int
    drawn: int
    """Rows of it in an epoch."""


@dataclass(frozen=True)
class Lengths:
    """Tokens per training row."""

    shortest: int
    median: int
    longest: int
    counts: list[int]
    """Rows in each of several ranges of equal width, from the shortest to the longest."""


@dataclass(frozen=True)
class DataSummary:
    """Figures of the data, as they stand in data.json."""

    train_rows: int
    train_tokens: int
    learned_tokens: int
    """Tokens of the training rows that the loss is computed on."""
    lengths: Lengths
    truncated: int
    """Training rows that lost their end to maxLength."""
    dropped: int
    """Training rows that were left out: nothing of them was left to learn from."""
    repeated: int
    """Training rows that are the same as an earlier one; they are kept."""
    overlapping: int
    """Training rows that stand in the validation or test rows too."""
    validation_rows: int
    test_rows: int
    sets: list[SetSummary]
    """Each training set."""
    warnings: list[str]
    """What a user should know before the first step."""
    total_steps: int = 0
    """Optimizer steps of the whole run."""
    trainable_parameters: int = 0
    """Weights that are trained."""
    total_parameters: int = 0
    """Weights of the model, without what the method adds to it."""
    equal: int = 0
    """Training pairs that were left out: both answers are the same."""
    hardware: str = ""
    """What it is trained on."""

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Self:
        """From what `dataclasses.asdict` has made of one."""
        nested = {"lengths": Lengths(**fields["lengths"]), "sets": [SetSummary(**part) for part in fields["sets"]]}
        return cls(**(fields | nested))


def summarise(
    spec: FineTuneJobSpec, train: Sequence[Part], validation: Part, test: Part, lengths: NDArray[np.int64]
) -> DataSummary:
    """Figures of a run's data.

    Args:
        spec: of the run.
        train: each training set, in order.
        validation: the rows that are validated on.
        test: the rows of the evaluation.
        lengths: tokens of each training row; shape [rows].
    """
    rows = sum(part.rows for part in train)
    overlapping = sum(part.overlapping for part in train)
    drawn = shares(tuple(part.rows for part in train), spec.dataset.train_weights)
    sources = spec.dataset.train_sources.values()
    return DataSummary(
        train_rows=rows,
        train_tokens=sum(part.tokens for part in train),
        learned_tokens=sum(part.learned_tokens for part in train),
        lengths=_lengths(lengths),
        truncated=sum(part.truncated for part in train),
        dropped=sum(part.dropped for part in train),
        repeated=rows - len(np.unique(np.concatenate([part.hashes for part in train]))),
        overlapping=overlapping,
        validation_rows=validation.rows,
        test_rows=test.rows,
        sets=[
            SetSummary(str(source.source), part.rows, part.tokens, part.learned_tokens, count)
            for source, part, count in zip(sources, train, drawn, strict=True)
        ],
        warnings=_warnings(overlapping, spec.dataset.deduplicate) + _equal_pairs(train),
        equal=sum(part.equal for part in train),
    )


def _lengths(lengths: NDArray[np.int64]) -> Lengths:
    shortest, longest = int(lengths.min()), int(lengths.max())
    counts, _ = np.histogram(lengths, min(BINS, longest - shortest + 1), (shortest, longest + 1))
    return Lengths(shortest, int(np.median(lengths)), longest, counts.tolist())


def _warnings(overlapping: int, left_out: bool) -> list[str]:
    if not overlapping:
        return []
    verb = "row stands" if overlapping == 1 else "rows stand"
    rows = f"{overlapping:,} training {verb} in the validation or test rows too"
    if left_out:
        return [f"{rows}: left out of the training"]
    return [f"{rows}, and flatter both: leave them out with dataset.deduplicate"]


def _equal_pairs(parts: Sequence[Part]) -> list[str]:
    count = sum(part.equal for part in parts)
    if not count:
        return []
    verb = "pair has" if count == 1 else "pairs have"
    return [f"{count:,} training {verb} the same answer twice: left out"]
