"""The optimizers, and the rate and weight decay of each parameter.

Every group of parameters carries a `factor`: its rate is that times the schedule's, which the loop sets in each step.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from tunesmith.api.training import TrainingSpec

Groups = list[dict[str, Any]]


def make_optimizer(
    model: nn.Module, training: TrainingSpec, *, fused: bool, factor_of: Callable[[str], float] = lambda name: 1.0
) -> Optimizer:
    """The optimizer over the trained weights of a model, wrapped or sharded already unless DeepSpeed does that.

    Args:
        model: the model.
        training: what to make.
        fused: whether AdamW may compute all of a weight at once; DeepSpeed wants it plain.
        factor_of: by a parameter's name, what multiplies its rate.
    """
    groups = parameter_groups(model, training, factor_of)
    adamw, sgd = training.optimizer.adamw, training.optimizer.sgd
    adafactor, muon = training.optimizer.adafactor, training.optimizer.muon
    rate = training.learning_rate
    epsilon = adamw.epsilon if adamw is not None and adamw.epsilon is not None else 1e-8
    if adamw is not None and adamw.bits == 32 and not adamw.paged:
        return torch.optim.AdamW(groups, rate, (adamw.beta1, adamw.beta2), epsilon, fused=fused)
    if adamw is not None:
        import bitsandbytes

        eight: Optimizer = bitsandbytes.optim.AdamW(
            groups,
            rate,
            (adamw.beta1, adamw.beta2),
            epsilon,
            optim_bits=adamw.bits,
            is_paged=adamw.paged,
        )
        return eight
    if sgd is not None:
        return torch.optim.SGD(groups, rate, sgd.momentum, nesterov=sgd.nesterov)
    if adafactor is not None:
        from transformers.optimization import Adafactor

        # rates as with AdamW: neither 1 / sqrt(step) nor the size of the weights is in them
        small: Optimizer = Adafactor(
            groups,
            lr=rate,
            decay_rate=adafactor.decay_exponent,
            clip_threshold=adafactor.clip_threshold,
            scale_parameter=False,
            relative_step=False,
        )
        return small
    assert muon is not None
    return MuonAndAdamW(groups, rate, muon.momentum, (muon.beta1, muon.beta2), fused=fused)


class MuonAndAdamW(Optimizer):
    """Muon for matrices within the layers (the groups with `orthogonal`), AdamW for everything else."""

    def __init__(self, groups: Groups, rate: float, momentum: float, betas: tuple[float, float], fused: bool) -> None:
        matrices, others = ([g for g in groups if g["orthogonal"] is kind] for kind in (True, False))
        self._parts: list[tuple[bool, Optimizer]] = []
        if matrices:
            # 0.2 x sqrt(the longer side) gives an update the root mean square of AdamW's
            muon = torch.optim.Muon(matrices, rate, momentum=momentum, adjust_lr_fn="match_rms_adamw")
            self._parts.append((True, muon))
        if others:
            self._parts.append((False, torch.optim.AdamW(others, rate, betas, fused=fused)))
        super().__init__([g for _, part in self._parts for g in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # never called with one
        """One step of both; each sees its groups of this optimizer, which others may have replaced since."""
        for kind, part in self._parts:
            part.param_groups = [group for group in self.param_groups if group["orthogonal"] is kind]
            part.state = self.state
            part.step()


def parameter_groups(
    model: nn.Module, training: TrainingSpec, factor_of: Callable[[str], float] = lambda name: 1.0
) -> Groups:
    """The trained weights by how they are updated; weight decay on matrices only.

    Returns:
        Groups with `params`, `lr`, `factor`, `weight_decay` and `orthogonal`.
    """
    groups: dict[Any, dict[str, Any]] = {}
    embeddings = set(embedding_names(model))
    for name, parameter, below_top in by_depth(model):
        if not parameter.requires_grad:
            continue
        embedding = name in embeddings
        factor = training.layer_decay**below_top
        if embedding and training.embedding_learning_rate is not None:
            factor = training.embedding_learning_rate / training.learning_rate
        factor *= factor_of(name)
        decay = training.weight_decay if parameter.ndim >= 2 else 0.0
        orthogonal = parameter.ndim == 2 and not embedding and _layer_of(name) is not None
        mesh = parameter.device_mesh if isinstance(parameter, DTensor) else None  # one group cannot mix them
        key = (factor, decay, orthogonal, mesh)
        new = {"params": [], "lr": factor * training.learning_rate, "factor": factor, "weight_decay": decay}
        groups.setdefault(key, new | {"orthogonal": orthogonal})["params"].append(parameter)
    return list(groups.values())


def by_depth(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, int]]:
    """Every parameter with how many layers down from the head it is: the head 0, the last layer 1, ...

    What comes before the first layer is below it; a decoder is on top of its encoder. Tied weights count once, where
    they come first.
    """
    seen: dict[str, int] = {}
    depths = []
    for name, parameter in model.named_parameters():
        layer = _layer_of(name)
        if layer is not None:
            seen.setdefault(layer, len(seen) + 1)
        outside = len(seen) + 1 if seen else 0
        depths.append((name, parameter, outside if layer is None else seen[layer]))
    top = len(seen) + 1
    return ((name, parameter, top - depth) for name, parameter, depth in depths)


def embedding_names(model: nn.Module) -> Iterator[str]:
    """The names of the parameters of embeddings and of the head."""
    of_model: Any = getattr(model, "get_output_embeddings", lambda: None)
    head = of_model()
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) or (head is not None and module is head):
            yield from (f"{name}.{parameter}" if name else parameter for parameter, _ in module.named_parameters())


def _layer_of(name: str) -> str | None:
    """The layer of a parameter: its name up to the first number."""
    found = re.match(r"(.*?\.\d+)\.", name)
    return found[1] if found else None
