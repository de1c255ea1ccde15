"""An exponential moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tunesmith.training.state import place_like, trained_parameters


class WeightAverage:
    """The average of a model's trained weights, cut over the workers as they are."""

    def __init__(self, model: nn.Module, decay: float, saved: dict[str, Tensor] | None) -> None:
        """Starts from the model's weights, or from what a checkpoint holds.

        Args:
            model: unwrapped.
            decay: of the average in each step.
            saved: the part `average` of a checkpoint, whole tensors by name.
        """
        self._model, self._decay = model, decay
        self.tensors = {
            name: place_like(saved[name], p) if saved is not None else p.detach().clone()
            for name, p in trained_parameters(model)
        }

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Takes the weights in after a step.

        Args:
            updates: how many steps there were, this one included: as long as their mean forgets faster, it is taken,
                so that the weights before the first step leave no trace.
        """
        share = max(1.0 - self._decay, 1.0 / updates)
        for name, parameter in trained_parameters(self._model):
            self.tensors[name].lerp_(parameter.detach(), share)
            if ".lora_E." in name:  # a rank that AdaLoRA has given up is not there, however large it was before
                self.tensors[name].mul_(parameter.detach() != 0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the average into the model for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in trained_parameters(self._model):
            current = parameter.detach().clone()
            parameter.copy_(self.tensors[name])
            self.tensors[name].copy_(current)
