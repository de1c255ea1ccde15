"""AdaLoRA: which ranks of which adapters are given up, and when."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.api.load import InputError, Problem
from tunesmith.api.method import AdaLoraMethod
from tunesmith.training.state import State

_IMPORTANCE, _UNCERTAINTY, _KEPT = "importance", "uncertainty", "ranks"


class Ranks:
    """Gives up ranks by importance until their budget is met (Zhang et al. 2023, arXiv:2303.10512).

    The decisions are peft's. They follow from weights and gradients that all workers share, and so are the same on
    each.
    """

    def __init__(self, method: AdaLoraMethod, model: Any, total_steps: int, state: State | None = None) -> None:
        """Args:
        method: the settings.
        model: a PeftModel, not the wrapper around it.
        total_steps: of the whole run.
        state: of a checkpoint, to go on from.

        Raises:
            InputError: there are too few steps.
        """
        self._method, self._adalora = method, model.base_model
        self._config = model.active_peft_config
        self._config.total_step = total_steps
        self._config.tinit = int(method.warmup * total_steps)
        self._config.tfinal = int(method.settled * total_steps)
        if total_steps - self._config.tfinal < 2:
            message = f"{total_steps} steps leave none to judge the ranks in; train longer, or use lora"
            raise InputError(Problem(message, "spec.method.adalora"))
        if state is not None:
            self._restore(state)

    def add_gradient(self, scale: float) -> dict[str, float]:
        """Adds the gradient of the penalty that keeps singular vectors orthogonal, once a step: the mean over all P of
        ||P' P - I||, as peft has it.

        Args:
            scale: what the gradients are multiplied with already (fp16).

        Returns:
            The penalty without its weight, for metrics.jsonl.
        """
        vectors = [p for name, p in self._parameters() if "lora_A" in name or "lora_B" in name]
        with torch.enable_grad():
            penalty = torch.stack([_departure(p) for p in vectors]).mean()
            gradients = torch.autograd.grad(penalty, vectors)
        for parameter, gradient in zip(vectors, gradients, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(gradient, alpha=self._method.orthogonality * scale)
        return {"adalora/orthogonality": float(penalty.detach())}

    def after_step(self, step: int) -> dict[str, float]:
        """Gives up ranks; the gradients of the step must be there still.

        Args:
            step: finished steps.

        Returns:
            The ranks as they are now, for metrics.jsonl.
        """
        self._adalora.update_and_allocate(step)
        ranks = [int((p != 0).sum()) for name, p in self._parameters() if "lora_E" in name]
        return {
            "adalora/mean_rank": sum(ranks) / len(ranks),
            "adalora/min_rank": float(min(ranks)),
            "adalora/max_rank": float(max(ranks)),
        }

    def state(self) -> State:
        """The statistics of importance, and which ranks were kept, by parameter name."""
        allocator, kept = self._adalora.rankallocator, self._config.rank_pattern or {}
        return {
            _IMPORTANCE: {name: value.cpu().clone() for name, value in allocator.exp_avg_ipt.items()},
            _UNCERTAINTY: {name: value.cpu().clone() for name, value in allocator.exp_avg_unc.items()},
            _KEPT: {name: torch.tensor(values) for name, values in kept.items()},
        }

    def _restore(self, state: State) -> None:
        allocator = self._adalora.rankallocator
        devices = {name: p.device for name, p in self._adalora.model.named_parameters()}
        for name, value in state[_IMPORTANCE].items():
            allocator.exp_avg_ipt[name] = value.to(devices[name])
            allocator.exp_avg_unc[name] = state[_UNCERTAINTY][name].to(devices[name])
            allocator.ipt[name] = torch.zeros_like(allocator.exp_avg_ipt[name])  # of one step only
        if state[_KEPT]:
            self._config.rank_pattern = {name: values.tolist() for name, values in state[_KEPT].items()}

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from ((name, p) for name, p in self._adalora.model.named_parameters() if p.requires_grad)


def _departure(vectors: Tensor) -> Tensor:
    """How far a matrix's shorter side is from orthonormal; a scalar."""
    square = vectors @ vectors.T if vectors.shape[0] <= vectors.shape[1] else vectors.T @ vectors
    distance: Tensor = torch.linalg.matrix_norm(square - torch.eye(len(square), device=square.device))
    return distance


def keep_only_used_ranks(model: Any) -> None:
    """Has peft write only the ranks whose singular value is not 0: the others add nothing."""
    used = {
        name: (p != 0).view(-1).tolist() for name, p in model.base_model.model.named_parameters() if ".lora_E." in name
    }
    model.active_peft_config.rank_pattern = used
