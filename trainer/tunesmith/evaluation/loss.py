"""The likelihood of test rows under a model: what perplexity is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

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
from tunesmith.evaluation.work import Work
from tunesmith.training.objective import collator_of, token_losses


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


def loss_work(test: TestRows, spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase, size: int) -> Work:
    """The negative log-likelihood of each piece's learned tokens, in nats."""
    pieces, objective = test.pieces, spec.objective.to_dict()
    return Work(
        name="losses",
        items=np.argsort(-pieces.lengths, kind="stable").tolist(),
        size=size,
        facts=[pieces.tokens, pieces.learned, pieces.offsets, objective, spec.training.seed, tokenizer.pad_token_id],
        do=partial(_losses, test, spec, tokenizer),
        row_of=test.row_of.tolist(),
    )


def _losses(
    test: TestRows,
    spec: FineTuneJobSpec,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    pieces: list[int],
    size: int,
    keep: Callable[[dict[int, float]], None],
) -> int:
    collator = collator_of(spec, model, tokenizer, packed=False, half=model.dtype.itemsize == 2)
    return piece_losses(model, test, collator, pieces, size, keep)


@torch.inference_mode()
def piece_losses(
    model: PreTrainedModel,
    test: TestRows,
    collator: Collator,
    pieces: list[int],
    size: int,
    keep: Callable[[dict[int, float]], None],
) -> int:
    """The negative log-likelihoods of some pieces' learned tokens.

    Args:
        model: in evaluation mode, on its device.
        test: the rows.
        collator: makes the batches, padded.
        pieces: numbers of the pieces, the longest first.
        size: pieces at once; halved where memory runs out.
        keep: is given the losses of each batch, in nats.

    Returns:
        How many at once worked.
    """

    def work(some: list[int]) -> None:
        batch = collator.batch(test.pieces, some, FIXED).to(model.device)
        piece_of = batch.keep.nonzero()[:, 0].cpu().numpy()
        losses = np.bincount(piece_of, token_losses(model, batch).cpu().numpy(), minlength=len(some))
        keep(dict(zip(some, losses.tolist(), strict=True)))

    return in_batches(pieces, size, work)


def losses_of_rows(test: TestRows, losses: dict[int, float]) -> NDArray[np.float64]:
    """The losses of rows from those of their pieces; [rows], 0 for a row that is left out."""
    of_pieces = np.array([losses[piece] for piece in range(len(test.pieces))], np.float64)
    return np.bincount(test.row_of, of_pieces, minlength=test.rows).astype(np.float64)


def row_losses(
    model: PreTrainedModel, test: TestRows, collator: Collator, batch_size: int, progress: Callable[[int], None]
) -> NDArray[np.float64]:
    """The negative log-likelihoods of each row's learned tokens, computed here and now.

    Args:
        model, test, collator: as for `piece_losses`.
        batch_size: pieces at once; halved where memory runs out.
        progress: is told how many pieces are done.

    Returns:
        In nats; shape [rows], 0 for a row that is left out.
    """
    found: dict[int, float] = {}

    def keep(losses: dict[int, float]) -> None:
        found.update(losses)
        progress(len(found))

    piece_losses(model, test, collator, np.argsort(-test.pieces.lengths, kind="stable").tolist(), batch_size, keep)
    return losses_of_rows(test, found)
