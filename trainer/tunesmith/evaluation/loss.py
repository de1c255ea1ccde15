"""The likelihood of test rows under a model: what perplexity is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.data.collate import Collator
from tunesmith.data.encode import encode, examples_of
from tunesmith.data.examples import FIXED
from tunesmith.data.rows import Row
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.evaluation.batches import in_batches
from tunesmith.training.objective import token_losses


@dataclass(frozen=True)
class TestRows:
    """Test rows as training would see them, each with its pieces: plain text is cut into several where it is long.

    What an objective draws (the hidden tokens of maskedLM, for one) is drawn once, the same for every model."""

    __test__ = False  # no test case, whatever pytest thinks of the name

    pieces: TokenizedRows
    row_of: NDArray[np.int64]
    """The row that each piece belongs to; shape [pieces]."""
    rows: int
    targets: NDArray[np.int64]
    """Learned tokens of each piece; shape [pieces]."""

    @property
    def tokens(self) -> NDArray[np.float64]:
        """Learned tokens of each row, 0 where it is left out; shape [rows]."""
        return np.bincount(self.row_of, self.targets, minlength=self.rows).astype(np.float64)


def encode_test(rows: Sequence[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> TestRows:
    """Tokenizes test rows.

    Raises:
        InputError: nothing is left to be predicted in any of them.
    """
    encoded = [encode([row], spec, tokenizer) for row in rows]
    lengths = np.concatenate([part.lengths for part in encoded])
    pieces = TokenizedRows(
        tokens=np.concatenate([part.tokens for part in encoded]),
        learned=np.concatenate([part.learned for part in encoded]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        truncated=sum(part.truncated for part in encoded),
        dropped=sum(part.dropped for part in encoded),
    )
    targets = examples_of(spec, tokenizer).targets(pieces, np.arange(len(pieces)), FIXED)
    if not targets.any():
        message = f"no test row has anything left to predict within {spec.training.max_length} tokens; raise it"
        raise InputError(Problem(message, "spec.training.maxLength"))
    return TestRows(pieces, np.repeat(np.arange(len(rows)), [len(part) for part in encoded]), len(rows), targets)


@torch.inference_mode()
def row_losses(
    model: PreTrainedModel, test: TestRows, collator: Collator, batch_size: int, progress: Callable[[int], None]
) -> NDArray[np.float64]:
    """The sum of the negative log-likelihoods of each row's learned tokens.

    Args:
        model: in evaluation mode, on its device.
        test: the rows.
        collator: makes the batches, padded.
        batch_size: pieces at once; halved where memory runs out.
        progress: is told how many pieces are done.

    Returns:
        In nats; shape [rows], 0 for a row that is left out.
    """
    losses = np.zeros(len(test.pieces))
    done = 0

    def work(pieces: list[int]) -> None:
        nonlocal done
        batch = collator.batch(test.pieces, pieces, FIXED).to(model.device)
        piece_of = batch.keep.nonzero()[:, 0].cpu().numpy()
        losses[pieces] = np.bincount(piece_of, token_losses(model, batch).cpu().numpy(), minlength=len(pieces))
        done += len(pieces)
        progress(done)

    in_batches(np.argsort(-test.pieces.lengths, kind="stable").tolist(), batch_size, work)
    return np.bincount(test.row_of, losses, minlength=test.rows).astype(np.float64)
