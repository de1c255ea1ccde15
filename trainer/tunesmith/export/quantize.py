"""Fewer bits for a model's linear layers: 8 with torchao, 4 with bitsandbytes; the head and the embeddings stay whole.

What is simulated in quantization-aware training is computed by the same functions as what is exported, so that a model
meets no other numbers afterwards than those that it was trained with.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

Bits = Literal["int8", "nf4"]

_NF4_BLOCK = 64
"""Weights that share a scale; the default of bitsandbytes, which transformers does not change."""


def quantized_layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The layers that are quantized, by name: every linear layer but the head, whose weights may be the embeddings."""
    head = model.get_output_embeddings()
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}


def quantize_dynamic(model: PreTrainedModel) -> None:
    """8-bit weights with a scale for each output; activations get 8 bits and a scale for each token as they come."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    config = Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    layers = set(quantized_layers(model).values())
    quantize_(model, config, filter_fn=lambda module, name: module in layers)
    _note(model, config)


def quantize_static(model: PreTrainedModel, calibrate: Callable[[], None]) -> None:
    """As `quantize_dynamic`, but the scale of a layer's activations is fixed beforehand.

    Args:
        model: in evaluation mode.
        calibrate: runs the model over rows that are typical of what it will see.
    """
    from torchao.quantization import Int8StaticActivationInt8WeightConfig, PerRow, PerTensor, quantize_

    layers = quantized_layers(model)
    with _largest_inputs(layers) as largest:
        calibrate()
    shared: dict[str, Any] = {"granularity": [PerTensor(), PerRow()], "set_inductor_config": False}
    for name, layer in layers.items():
        # inputs are [rows, tokens, features], and torchao wants as many dimensions of their scale
        scale = torch.full((1, 1, 1), max(largest[name], 1e-5) / 127, dtype=torch.float32, device=layer.weight.device)
        config = Int8StaticActivationInt8WeightConfig(act_quant_scale=scale, **shared)
        quantize_(layer, config, filter_fn=lambda module, name: True)
    _note(model, Int8StaticActivationInt8WeightConfig(**shared))


@contextmanager
def _largest_inputs(layers: dict[str, nn.Linear]) -> Iterator[dict[str, float]]:
    """Watches the largest magnitude of each layer's input."""
    largest = dict.fromkeys(layers, 0.0)

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            largest[name] = max(largest[name], float(arguments[0].abs().max()))

        return note

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield largest
    finally:
        for handle in handles:
            handle.remove()


def _note(model: PreTrainedModel, config: Any) -> None:
    """Tells transformers that the model is quantized, so that it saves it, and says so in config.json."""
    from transformers import TorchAoConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    noted = TorchAoConfig(config)
    model.config.quantization_config = noted
    model.hf_quantizer = AutoHfQuantizer.from_config(noted, pre_quantized=True)
    model.is_quantized = True


class FakeQuantizedLinear(nn.Linear):
    """A linear layer that computes with quantized values and learns as if it did not: the gradient passes straight
    through the rounding (Bengio et al. 2013, arXiv:1308.3432). Its weight stays whole, under its own name."""

    bits: Bits

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name of the overridden method
        """As nn.Linear."""
        if self.bits == "int8":
            input = straight_through(input, round_to_int8)  # noqa: A001
            return functional.linear(input, straight_through(self.weight, round_to_int8), self.bias)
        return functional.linear(input, straight_through(self.weight, round_to_nf4), self.bias)


def train_quantized(model: PreTrainedModel, bits: Bits) -> None:
    """Has the layers that an export quantizes computed as quantized from now on, activations (int8 only) included."""
    for layer in quantized_layers(model).values():
        layer.__class__ = FakeQuantizedLinear
        layer.bits = bits  # type: ignore[assignment]  # an attribute of the class that it now is


def straight_through(values: Tensor, rounded: Callable[[Tensor], Tensor]) -> Tensor:
    """Rounded values with the gradient of the values themselves."""
    with torch.no_grad():
        distance = rounded(values) - values
    return values + distance


def round_to_int8(values: Tensor) -> Tensor:
    """What 8 bits keep of a matrix with a scale for each row, or of activations with a scale for each token."""
    from torchao.quantization import Int8Tensor, PerRow

    kept: Tensor = Int8Tensor.from_hp(values, PerRow()).dequantize()
    return kept


def round_to_nf4(weight: Tensor) -> Tensor:
    """What NormalFloat's 4 bits keep of a matrix, with a scale for each 64 weights that is itself kept in 8 bits."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight, blocksize=_NF4_BLOCK, compress_statistics=True, quant_type="nf4")
    kept: Tensor = dequantize_4bit(packed, state)
    return kept.to(weight.dtype)
