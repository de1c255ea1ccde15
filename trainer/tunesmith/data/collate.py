"""From a micro-batch of rows to the tensors that the model takes.

Packed, rows lie end to end in one sequence and attention is kept within each (`models.attention`); padded, they lie
side by side, padded on the right, where causal attention never looks. In both layouts logits are computed only where a
token is learned: for the others they would be thrown away.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tunesmith.data.plan import MicroBatch
from tunesmith.data.tokenized import TokenizedRows


@dataclass(frozen=True)
class Batch:
    """The tensors of a micro-batch."""

    input_ids: Tensor
    """Tokens; int64 [1, tokens] packed, [rows, longest] padded."""
    position_ids: Tensor
    """Position of each token in its row; the shape of input_ids."""
    keep: Tensor
    """Positions whose next token is learned; bool, the shape of input_ids."""
    targets: Tensor
    """The learned tokens, in the order of `keep`; int64 [learned]."""
    row_lengths: list[int] | None
    """Packed: tokens of each row, in order."""
    tokens: int
    """Real tokens, padding excluded."""

    def to(self, device: torch.device) -> "Batch":
        """On another device."""
        names = ("input_ids", "position_ids", "keep", "targets")
        tensors = {name: getattr(self, name) for name in names}
        if device.type == "cuda":  # from pinned memory the copy runs beside the computation
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


def collate(data: TokenizedRows, rows: MicroBatch, packed: bool, pad_token: int) -> Batch:
    """The tensors of some rows; of none, a single token with nothing to learn, so that a worker without rows still
    takes part in the collective operations."""
    pairs = [data.row(row) for row in rows] or [(np.array([pad_token], np.int32), np.array([False]))]
    lengths = [len(tokens) for tokens, _ in pairs]
    width = sum(lengths) if packed else max(lengths)
    shape = (1, width) if packed else (len(pairs), width)
    ids, positions = np.full(shape, pad_token, np.int64), np.zeros(shape, np.int64)
    keep = np.zeros(shape, np.bool_)
    targets = []
    start = 0
    for index, (tokens, learned) in enumerate(pairs):
        place = (0, slice(start, start + len(tokens))) if packed else (index, slice(0, len(tokens)))
        ids[place], positions[place] = tokens, np.arange(len(tokens))
        keep[place] = np.append(learned[1:], False)
        targets.append(tokens[1:][learned[1:]])
        start += len(tokens)
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(keep),
        torch.from_numpy(np.concatenate(targets).astype(np.int64)),
        lengths if packed else None,
        sum(lengths) if rows else 0,
    )
