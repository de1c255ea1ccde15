"""What a run trains and validates on: the sets of rows, tokenized and split, with a summary for people."""

import hashlib
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.data.encode import encode
from tunesmith.data.rows import Row, read_rows
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.sources import Resolver


@dataclass(frozen=True)
class DataSummary:
    """What is known of the data before training starts."""

    train_rows: int
    train_tokens: int
    learned_tokens: int
    """Tokens of the training rows that the loss is computed on."""
    longest: int
    """Tokens of the longest row."""
    truncated: int
    """Rows that lost their end to maxLength."""
    dropped: int
    """Rows that were left out: nothing of them was left to learn from."""
    validation_rows: int
    total_steps: int = 0
    """Optimizer steps of the whole run."""


@dataclass(frozen=True)
class TrainingData:
    """The tokenized sets of a run."""

    train: TokenizedRows
    validation: TokenizedRows | None
    digest: str
    """SHA-256 of the tokens: a run resumes only on the data that it started with."""

    def summary(self) -> DataSummary:
        """Counts, for people."""
        return DataSummary(
            train_rows=len(self.train),
            train_tokens=len(self.train.tokens),
            learned_tokens=int(self.train.learned.sum()),
            longest=int(self.train.lengths.max()),
            truncated=self.train.truncated,
            dropped=self.train.dropped,
            validation_rows=len(self.validation) if self.validation else 0,
        )


def split_rows(rows: list[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Sets a share of the rows aside, drawn at random; both parts keep the rows' order.

    Raises:
        InputError: one of the parts would be empty.
    """
    count = round(len(rows) * fraction)
    if not 0 < count < len(rows):
        empty = "validation" if count == 0 else "training"
        message = f"{fraction} of {len(rows)} rows leaves no {empty} row; choose another fraction"
        raise InputError(Problem(message, "spec.dataset.validation.fraction"))
    chosen = set(np.random.default_rng(seed).choice(len(rows), size=count, replace=False).tolist())
    kept = [row for i, row in enumerate(rows) if i not in chosen]
    return kept, [rows[i] for i in sorted(chosen)]


def read_training_rows(spec: FineTuneJobSpec, resolver: Resolver) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those to validate on (none without dataset.validation)."""
    rows = read_rows(spec.dataset.train, resolver, "spec.dataset.train.source")
    validation = spec.dataset.validation
    if validation is None:
        return rows, []
    if validation.fraction is not None:
        return split_rows(rows, validation.fraction, spec.training.seed)
    return rows, read_rows(validation, resolver, "spec.dataset.validation.source")


def tokenize(
    train: list[Row], validation: list[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase
) -> TrainingData:
    """Tokenizes the sets of a run.

    Raises:
        InputError: nothing is left to learn from, or to validate on.
    """
    tokenized = _tokenize(train, spec, tokenizer, "training")
    held_out = _tokenize(validation, spec, tokenizer, "validation") if validation else None
    digest = hashlib.sha256(tokenized.tokens.tobytes() + tokenized.learned.tobytes() + tokenized.offsets.tobytes())
    return TrainingData(tokenized, held_out, digest.hexdigest())


def _tokenize(rows: list[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase, name: str) -> TokenizedRows:
    tokenized = encode(rows, spec, tokenizer)
    if not tokenized.learned.any():
        message = f"no {name} row has anything left to learn from within {spec.training.max_length} tokens; raise it"
        raise InputError(Problem(message, "spec.training.maxLength"))
    return tokenized
