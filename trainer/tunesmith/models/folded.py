"""A model's weights with an adapter folded into them; the model itself stays as it is."""

import copy
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def folded_weights(model: Any, adapter: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights of a decoder, by the names that they have without an adapter.

    Layers are folded one at a time and in copies: folding in place and taking it back would leave rounding errors in
    the base.

    Args:
        model: without an adapter, or a PeftModel with low-rank ones.
        adapter: which one is folded in.
        dtype: of the floating-point tensors that are returned.

    Returns:
        Tensors on the CPU, copies all of them; those that are tied are there under each of their names.
    """
    bare, found = model, dict[str, Tensor]()
    if hasattr(model, "peft_config"):
        from peft.tuners.tuners_utils import BaseTunerLayer

        bare = model.get_base_model()
        for name, layer in bare.named_modules():
            if isinstance(layer, BaseTunerLayer):
                alone: Any = copy.deepcopy(layer)
                alone.merge(adapter_names=[adapter])
                found |= {f"{name}.{key}": value for key, value in alone.get_base_layer().state_dict().items()}
    prefixes = {name.rpartition(".")[0] + "." for name in found}
    for name, value in bare.state_dict().items():
        if not any(name.startswith(prefix) for prefix in prefixes):
            found[name] = value
    return {name: _plain(value, dtype) for name, value in found.items()}


def _plain(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype, copy=True).contiguous()
