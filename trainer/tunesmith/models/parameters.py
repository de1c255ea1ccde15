"""How many weights a model has, and how many of them are trained."""

import math
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of single weights."""

    trained: int
    """That are trained."""
    total: int
    """Of the model without what the method adds to it."""

    def __str__(self) -> str:
        text = f"{self.trained:,} trainable parameters of {self.total:,}"
        return text if self.trained >= self.total else f"{text}, {1 - self.trained / self.total:.2%} fewer"


def count_parameters(model: nn.Module) -> ParameterCount:
    """Counts the weights of a model, also where ZeRO-3 has cut them.

    Weights in 4 bits count each, although two share a byte.
    """
    trained = frozen = 0
    for name, parameter in model.named_parameters():
        packed = getattr(parameter, "quant_state", None)
        size = math.prod(packed.shape) if packed is not None else getattr(parameter, "ds_numel", parameter.numel())
        if parameter.requires_grad:
            trained += size
        elif ".ranknum." not in name:  # AdaLoRA's own, not the base's
            frozen += size
    return ParameterCount(trained, frozen or trained)
