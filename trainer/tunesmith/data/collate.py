"""From a micro-batch of rows to the tensors that the model takes.

Packed, rows lie end to end in one sequence and attention is kept within each (`models.attention`); padded, they lie
side by side, padded on the right, where causal attention never looks and that of encoders is told not to. In both
layouts logits are computed only where a token is learned: for the others they would be thrown away.

In half precision the numbers of tokens and logits are rounded up to a few sizes. oneDNN makes kernels for every size of
a product that it meets and keeps them (on a CPU 60 MiB a step, docs/benchmarks.md); tensor cores want multiples of 8.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.api.objective import ModelKind
from tunesmith.data.examples import Example, Examples, halves, scored
from tunesmith.data.plan import MicroBatch
from tunesmith.data.tokenized import TokenizedRows

IGNORED = -100
"""In `Batch.labels`: nothing to learn; what PyTorch's cross entropy leaves out."""


@dataclass(frozen=True)
class Batch:
    """The tensors of a micro-batch."""

    input_ids: Tensor
    """Tokens; int64 [1, tokens] packed, [rows, longest] padded."""
    position_ids: Tensor
    """Position of each token in its row; the shape of input_ids."""
    keep: Tensor
    """Where a learned token is predicted: of a decoder, the position before it; of an encoder, its own. bool, the shape
    of the tokens that are predicted from: decoder_ids where there are any, else input_ids."""
    targets: Tensor
    """The learned tokens, in the order of `keep`; int64 [learned]."""
    row_lengths: list[int] | None
    """Packed: tokens of each row, in order; what rounds their sum up are rows of one token."""
    tokens: int
    """Real tokens, padding excluded."""
    kind: ModelKind = "decoder"
    """The kind of model that it is for."""
    real: Tensor | None = None
    """Which input_ids are no padding, for encoders that are given padded rows; bool, the shape of input_ids."""
    decoder_ids: Tensor | None = None
    """What the decoder of an encoder-decoder reads: the targets, one place on; int64 [rows, longest target]."""
    margins: Tensor | None = None
    """Of pairs, by how much the first answer is preferred; float32 [pairs]. Both answers are rows of their own, which
    follow each other, and `keep` is the last token of each."""
    lengths: list[int] = field(default_factory=list)
    """Real tokens of each row, as far as `input_ids` holds them; empty where there is no row."""
    decoder_lengths: list[int] = field(default_factory=list)
    """The same of `decoder_ids`."""
    computed: Tensor | None = None
    """Where logits are computed, if at more places than `keep`, to round their number up; bool, the shape of keep."""
    labels: Tensor | None = None
    """The targets at `computed`, IGNORED where there is none; int64 [computed]."""

    def to(self, device: torch.device) -> "Batch":
        """On another device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        if device.type == "cuda":  # from pinned memory the copy runs beside the computation
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        moved: dict[str, Any] = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class Collator:
    """Makes batches as a run's objective and model need them."""

    pad_token: int
    packed: bool
    kind: ModelKind = "decoder"
    examples: Examples = field(default_factory=Examples)
    start_token: int = 0
    """What the decoder of an encoder-decoder starts from."""
    first_position: int = 0
    """The position of a row's first token: RoBERTa and its kin start at 2."""
    pairs: bool = False
    """Whether a row is a pair of texts, each of which is to be scored."""
    longest: int | None = None
    """Sizes are rounded up, those of padded rows to at most so many tokens; None where they stay as they are."""

    @property
    def texts(self) -> int:
        """How many texts of at most maxLength tokens a row holds."""
        return 2 if self.pairs else 1

    def batch(self, data: TokenizedRows, rows: MicroBatch, epoch: int) -> Batch:
        """The tensors of some rows; of none, a single token with nothing to learn, so that a worker without rows still
        takes part in the collective operations."""
        if self.pairs:
            return self._pairs(data, rows)
        examples = [self.examples.of(data, row, epoch) for row in rows] or [self._nothing()]
        batch = self._side_by_side(examples) if self.kind == "encoder-decoder" else self.lay_out(examples)
        return batch if rows else replace(batch, tokens=0, lengths=[], decoder_lengths=[])

    def _pairs(self, data: TokenizedRows, rows: MicroBatch) -> Batch:
        assert data.margins is not None
        texts = [text for row in rows for text in halves(*data.row(row))] or [self._nothing()]
        batch = replace(self.lay_out(texts), margins=torch.from_numpy(data.margins[rows]))
        return batch if rows else replace(batch, tokens=0, lengths=[], decoder_lengths=[])

    def _nothing(self) -> Example:
        one, none = np.array([self.pad_token], np.int32), np.zeros(0, np.int32)
        return Example(one, none, None if self.kind == "encoder-decoder" else np.array([False]))

    def lay_out(self, examples: list[Example]) -> Batch:
        """The tensors of some examples, in sequence."""
        lengths = [len(example.inputs) for example in examples]
        keeps = [example.keep for example in examples if example.keep is not None]
        positions = [np.arange(self.first_position, self.first_position + length) for length in lengths]
        width = self._rounded(sum(lengths), None) if self.packed else self._rounded(max(lengths), self.longest)
        lay = partial(_end_to_end if self.packed else _padded, width=width)
        real = not self.packed and self.kind == "encoder"
        batch = Batch(
            input_ids=lay([example.inputs for example in examples], self.pad_token),
            position_ids=lay(positions, self.first_position if self.packed else 0),
            keep=lay(keeps, 0).bool(),
            targets=torch.from_numpy(np.concatenate([example.targets for example in examples]).astype(np.int64)),
            row_lengths=lengths + [1] * (width - sum(lengths)) if self.packed else None,
            tokens=sum(lengths),
            kind=self.kind,
            real=lay([np.ones(length) for length in lengths], 0).bool() if real else None,
            lengths=lengths,
        )
        return self._with_more_logits(batch)

    def _side_by_side(self, examples: list[Example]) -> Batch:
        lengths = [len(example.inputs) for example in examples]
        targets = [example.targets for example in examples]
        shifted = [np.array([self.start_token, *row[:-1]]) for row in targets]
        read = partial(_padded, width=self._rounded(max(lengths), self.longest))
        written = partial(_padded, width=self._rounded(max(map(len, shifted)), self.longest))
        batch = Batch(
            input_ids=read([example.inputs for example in examples], self.pad_token),
            position_ids=read([np.arange(length) for length in lengths], 0),
            keep=written([np.ones(max(1, len(row))) * (len(row) > 0) for row in targets], 0).bool(),
            targets=torch.from_numpy(np.concatenate(targets).astype(np.int64)),
            row_lengths=None,
            tokens=sum(lengths) + sum(map(len, targets)),
            kind=self.kind,
            real=read([np.ones(length) for length in lengths], 0).bool(),
            decoder_ids=written(shifted, self.pad_token),
            lengths=lengths,
            decoder_lengths=[len(row) for row in targets],
        )
        return self._with_more_logits(batch)

    def _rounded(self, size: int, limit: int | None) -> int:
        """A size, rounded up where sizes are, but not beyond the limit."""
        if self.longest is None:
            return size
        return rounded_up(size) if limit is None else max(size, min(rounded_up(size), limit))

    def _with_more_logits(self, batch: Batch) -> Batch:
        """A batch whose number of logits is rounded up, where sizes are: at places where nothing is learned."""
        learned = len(batch.targets)
        if self.longest is None or not learned or self.pairs:
            return batch
        kept = batch.keep.flatten()
        more = (~kept).nonzero()[: rounded_up(learned) - learned, 0]
        if not len(more):
            return batch
        labels = torch.full_like(kept, IGNORED, dtype=torch.int64)
        labels[kept] = batch.targets
        computed = kept.index_fill(0, more, True)
        return replace(batch, computed=computed.view_as(batch.keep), labels=labels[computed])


def texts_to_score(texts: Sequence[Sequence[int]], pad_token: int, first_position: int = 0) -> Batch:
    """Texts side by side, each to be scored at its last token."""
    collator = Collator(pad_token, packed=False, first_position=first_position)
    return collator.lay_out([scored(np.array(text, np.int32)) for text in texts])


def rounded_up(size: int) -> int:
    """A size rounded up to one of 16 between it and its double, which adds 2% on average, or to a multiple of 8."""
    step = max(8, 1 << max(0, size.bit_length() - 5))
    return -(-size // step) * step


def _end_to_end(rows: Sequence[NDArray[np.generic]], fill: int, width: int) -> Tensor:
    """int64 [1, width], filled up on the right."""
    return torch.from_numpy(np.concatenate([*rows, np.full(width - sum(map(len, rows)), fill)]).astype(np.int64)[None])


def _padded(rows: Sequence[NDArray[np.generic]], fill: int, width: int) -> Tensor:
    """int64 [rows, width], filled up on the right."""
    table = np.full((len(rows), width), fill, np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return torch.from_numpy(table)
