"""Models that read something trained before each row: keys and values (prefix), or embeddings (ptuning).

peft puts it there. What it leaves open is that such a model is called, and answers, as any other does.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def virtual_tokens(model: nn.Module) -> int:
    """The places of a model's context that a prefix or a prompt takes."""
    config = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0


def bare_model(model: Any) -> PreTrainedModel:
    """The model that a prefix or a prompt stands beside; any other is itself."""
    inner: PreTrainedModel = model.get_base_model() if virtual_tokens(model) else model
    return inner


def reads_embeddings(model: Any) -> bool:
    """Whether embeddings stand before each row."""
    return virtual_tokens(model) > 0 and bool(model.active_peft_config.peft_type == "P_TUNING")


def make_room_for_prompt(model: nn.Module) -> None:
    """Lets a decoder with a trained prompt be called as one without: `logits_to_keep` is moved on by the prompt's
    length, and positions are left to the model (rows are padded on the right, so that they are just counted).
    """

    def fit(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        named.pop("position_ids", None)
        keep = named.get("logits_to_keep")
        if isinstance(keep, Tensor) and keep.dtype == torch.bool:
            prompt = keep.new_zeros(keep.shape[0], virtual_tokens(module))
            named["logits_to_keep"] = torch.cat([prompt, keep], dim=1)
        return positional, named

    model.register_forward_pre_hook(fit, with_kwargs=True)


def embedded_prompt(model: Any, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The embeddings of rows that are padded on the left, with a trained prompt between the padding and the row.

    (peft puts it before the padding and counts that as distance, so that an answer would depend on its neighbours in
    the batch.)

    Args:
        model: a PeftModel for P-tuning.
        ids: tokens [rows, width].
        mask: 1 for real ones; [rows, width].

    Returns:
        [rows, prompt + width, hidden], and the mask that goes with it.
    """
    embeddings = bare_model(model).get_input_embeddings()(ids)
    prompt = model.get_prompt(batch_size=len(ids)).to(embeddings.dtype)
    width, length = mask.shape[1], prompt.shape[1]
    together = torch.cat([prompt, embeddings], dim=1)
    padding = width - mask.sum(dim=1, keepdim=True)
    place = torch.arange(width + length, device=ids.device)[None]
    # where each place takes its embedding from: padding first, then the prompt, then the row
    source = torch.where(place < padding, place + length, torch.where(place < padding + length, place - padding, place))
    moved = together.gather(1, source[..., None].expand_as(together))
    return moved, (place >= padding).to(mask.dtype)
