"""Against forgetting: weights are pulled back to those that training started from."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from tunesmith.training.state import State, trained_parameters


class L2Pull:
    """Adds strength x (w - w0) to the gradient: that of strength / 2 x ||w - w0||^2 (L2-SP, Li et al. 2018,
    arXiv:1802.01483).

    It is added once a step, after the workers have exchanged theirs, and so does not depend on how a step is cut. Each
    worker holds w0 for the weights, or the shards of weights, that it holds itself.
    """

    def __init__(self, strength: float, model: nn.Module, start: Mapping[str, Tensor]) -> None:
        """Args:
        strength: l2Pull.
        model: wrapped for its strategy or not, but with the names of the bare model.
        start: the whole starting weights by name.
        """
        self._strength = strength
        self._pairs = [(p, _laid_out_like(p, start[name])) for name, p in trained_parameters(model)]

    @torch.no_grad()
    def add_gradient(self, scale: float) -> dict[str, float]:
        """Adds the pull to the gradients.

        Args:
            scale: what the gradients are multiplied with already (fp16).

        Returns:
            The distance ||w - w0||, for metrics.jsonl.
        """
        squares = []
        for parameter, start in self._pairs:
            away = parameter - start
            if parameter.grad is not None:
                parameter.grad.add_(away, alpha=self._strength * scale)
            square = away.double().square().sum()
            squares.append(square.full_tensor() if isinstance(square, DTensor) else square)
        return {"l2_distance": float(torch.stack(squares).sum().sqrt())}

    def after_step(self, step: int) -> dict[str, float]:
        """Nothing follows a step."""
        return {}

    def state(self) -> State:
        """Nothing to keep: a run that resumes loads its starting weights again."""
        return {}


def copy_of_trained(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights that are trained, by name."""
    return {name: parameter.detach().clone() for name, parameter in trained_parameters(model)}


def _laid_out_like(parameter: nn.Parameter, whole: Tensor) -> Tensor:
    """A whole tensor on a parameter's device, cut as that is."""
    whole = whole.to(parameter.device, parameter.dtype)
    if isinstance(parameter, DTensor):
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements)
    return whole
