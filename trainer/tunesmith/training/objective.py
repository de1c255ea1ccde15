"""What is minimised: a function from a batch to a loss sum. The loop divides it by the step's tokens."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tunesmith.data.collate import Batch


def next_token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The sum of the negative log-likelihoods of the learned tokens, in nats.

    Args:
        model: a causal language model, wrapped or not.
        batch: a micro-batch of `collate`.

    Returns:
        A scalar in fp32; 0 where nothing is learned, with gradients all the same, so that every worker takes part.
    """
    return token_losses(model, batch).sum()


def token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """The negative log-likelihoods of the learned tokens, in nats.

    Returns:
        In fp32, in the order of `batch.targets`; shape [learned].
    """
    packing = {} if batch.row_lengths is None else {"row_lengths": batch.row_lengths}
    logits = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        logits_to_keep=batch.keep,
        use_cache=False,
        **packing,
    ).logits
    return cross_entropy(logits.float(), batch.targets, reduction="none")
