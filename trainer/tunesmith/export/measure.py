"""What an export costs in quality and saves in size: perplexity on held-out rows, bytes, speed."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from torch import nn
from transformers import PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.data.collate import Collator
from tunesmith.data.parts import RunRows
from tunesmith.data.rows import Row
from tunesmith.evaluation.loss import TestRows, encode_test, row_losses
from tunesmith.sources import Resolver

ROWS = 256
"""Rows that perplexity is measured on, and that a static quantization is calibrated with."""
_BATCH = 8
_WEIGHTS = (".safetensors", ".onnx", ".data")


@dataclass(frozen=True)
class ExportRows:
    """The rows of a job that an export looks at."""

    held_out: TestRows | None
    """Validation rows, or else test rows; none where the job has neither."""
    calibration: TestRows
    """Training rows, so that the held-out ones stay unseen."""
    collator: Collator
    """Makes batches of both."""


@dataclass(frozen=True)
class Measured:
    """A model on disk."""

    name: str
    size: int
    """Bytes of its weights."""
    perplexity: float | None
    tokens_per_second: float | None
    """Of reading: logits for real tokens, in batches of rows of similar length."""

    def to_dict(self) -> dict[str, Any]:
        """For export.json."""
        return {
            "bytes": self.size,
            "perplexity": self.perplexity,
            "tokensPerSecond": self.tokens_per_second,
        }


def read_export_rows(
    spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase, collator: Collator
) -> ExportRows:
    """Reads and tokenizes them.

    Raises:
        InputError: a source is not there; names the field and the remedy.
    """
    rows = RunRows(spec, resolver)

    def encoded(some: Iterable[Row]) -> TestRows | None:
        first = list(islice(some, ROWS))
        return encode_test(first, spec, tokenizer) if first else None

    calibration = encoded(rows.all_train())
    assert calibration is not None, "an empty source is refused"
    held_out = encoded(rows.validation()) or encoded(rows.test())
    return ExportRows(held_out, calibration, collator)


def run_over(model: nn.Module, rows: TestRows, collator: Collator) -> float:
    """The perplexity of rows under a model in evaluation mode."""
    losses = row_losses(model, rows, collator, _BATCH, lambda done: None)
    mean = float(losses.sum()) / float(rows.tokens.sum())
    return math.exp(mean) if mean < 700 else math.inf


def measure(name: str, folder: Path, model: nn.Module, rows: ExportRows) -> Measured:
    """Measures a model that lies in a folder."""
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in _WEIGHTS)
    if rows.held_out is None:
        return Measured(name, size, None, None)
    run_over(model, rows.held_out, rows.collator)  # the first pass warms up what the second one measures
    started = time.perf_counter()
    perplexity = run_over(model, rows.held_out, rows.collator)
    return Measured(name, size, perplexity, int(rows.held_out.pieces.lengths.sum()) / (time.perf_counter() - started))


def table(measured: Sequence[Measured]) -> Table:
    """A line for each model; the first one is the original."""
    columns = ("format", "bytes", "perplexity", "difference", "tokens/s")
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column, no_wrap=True, justify="left" if column == "format" else "right")
    for model in measured:
        shown.add_row(*cells(model, measured[0]))
    return shown


def cells(model: Measured, original: Measured) -> tuple[str, str, str, str, str]:
    """The cells of one line."""
    size = f"{model.size:,} ({model.size / original.size:.0%})"
    if model.perplexity is None or original.perplexity is None or model.tokens_per_second is None:
        return model.name, size, "not measured", "", ""
    difference = model.perplexity / original.perplexity - 1
    shown = "" if model is original else f"{difference:+.2%}"
    return model.name, size, f"{model.perplexity:.3f}", shown, f"{model.tokens_per_second:,.0f}"
