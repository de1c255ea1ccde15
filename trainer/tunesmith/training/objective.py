"""What is minimised: a function from a batch to a loss sum. The loop divides it by the step's tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.data.collate import IGNORED, Batch, Collator
from tunesmith.data.encode import examples_of
from tunesmith.models.kind import first_position, start_token
from tunesmith.training.state import unwrapped


def collator_of(
    spec: FineTuneJobSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    packed: bool,
    half: bool = False,
) -> Collator:
    """What makes the batches of a spec's objective for a model.

    Args:
        spec: of a job.
        model: not wrapped yet.
        tokenizer: the model's.
        packed: whether rows lie end to end.
        half: whether products are computed in half precision, in sizes that are rounded up.

    Raises:
        InputError: the tokenizer lacks what the objective needs.
    """
    return Collator(
        pad_token=int(tokenizer.pad_token_id),
        packed=packed,
        kind=spec.objective.kind,
        examples=examples_of(spec, tokenizer),
        start_token=start_token(model) if spec.objective.kind == "encoder-decoder" else 0,
        first_position=first_position(model),
        pairs=spec.objective.reward is not None,
        longest=spec.training.max_length if half else None,
    )


def token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The sum of the negative log-likelihoods of the learned tokens, in nats.

    Args:
        model: a language model of the batch's kind, wrapped or not.
        batch: a micro-batch.

    Returns:
        A scalar in fp32; 0 where nothing is learned, with gradients all the same, so that every worker takes part.
    """
    return _losses(model, batch).sum()


def token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """The negative log-likelihoods of the learned tokens, in nats.

    Returns:
        In fp32, in the order of `batch.targets`; shape [learned].
    """
    losses = _losses(model, batch)
    return losses if batch.labels is None else losses[batch.labels != IGNORED]


def _losses(model: nn.Module, batch: Batch) -> Tensor:
    """The same, and 0 where a logit is computed and nothing is learned; fp32 [computed]."""
    logits = {"decoder": _predicted, "encoder": _hidden, "encoder-decoder": _written}[batch.kind](model, batch)
    labels = batch.targets if batch.labels is None else batch.labels
    return cross_entropy(logits.float(), labels, reduction="none", ignore_index=IGNORED)


def next_token_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits of a decoder for the tokens after those in `keep`; [learned, vocabulary]."""
    logits = _predicted(model, batch)
    return logits if batch.labels is None else logits[batch.labels != IGNORED]


def _predicted(model: nn.Module, batch: Batch) -> Tensor:
    """Logits of a decoder for the tokens after those that are computed; [computed, vocabulary]."""
    packing = {} if batch.row_lengths is None else {"row_lengths": batch.row_lengths}
    logits: Tensor = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        logits_to_keep=_computed(batch),
        use_cache=False,
        **packing,
    ).logits
    return logits


def _hidden(model: nn.Module, batch: Batch) -> Tensor:
    """Logits of an encoder at the tokens that are computed; [computed, vocabulary]."""
    if batch.row_lengths is None:
        layout: dict[str, Any] = {"attention_mask": batch.real}
    else:
        layout = {"position_ids": batch.position_ids, "row_lengths": batch.row_lengths}
    places = _computed(batch)
    with _only(model, places):
        logits: Tensor = model(input_ids=batch.input_ids, **layout).logits
    return logits if logits.dim() == 2 else logits[places]


def _written(model: nn.Module, batch: Batch) -> Tensor:
    """Logits of an encoder-decoder for the tokens that are computed; [computed, vocabulary]."""
    places = _computed(batch)
    with _only(model, places):
        logits: Tensor = model(
            input_ids=batch.input_ids, attention_mask=batch.real, decoder_input_ids=batch.decoder_ids, use_cache=False
        ).logits
    return logits if logits.dim() == 2 else logits[places]


def _computed(batch: Batch) -> Tensor:
    """Where logits are computed; bool."""
    return batch.keep if batch.computed is None else batch.computed


@contextmanager
def _only(model: Any, keep: Tensor) -> Iterator[None]:
    """Has a model compute logits only where something is learned; what decoders call logits_to_keep, others lack."""
    bare: Any = unwrapped(model)
    head = bare.get_output_embeddings() if hasattr(bare, "get_output_embeddings") else None
    if not isinstance(head, nn.Module):
        yield
        return
    hook = head.register_forward_pre_hook(lambda module, inputs: (inputs[0][keep],))
    try:
        yield
    finally:
        hook.remove()
