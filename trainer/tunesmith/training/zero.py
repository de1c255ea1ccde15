"""Whole tensors out of DeepSpeed's shards, and back into them, for checkpoints that any number of workers can read.

DeepSpeed's own checkpoints fit one number of workers, its universal ones need a conversion; its functions for single
parameters do neither, but want the optimizer's state to be there, which it makes at the first step only, and link it
after the first of several parameter groups has stepped. `make_state` makes and links it all before.
https://deepspeed.readthedocs.io/en/latest/zero3.html#modifying-partitioned-states
"""

from typing import Any

import torch
from deepspeed.utils import (
    lazy_init_hp_params_optimizer_state,
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

from tunesmith.training.state import OPTIMIZER


def kinds(zero: Any) -> tuple[str, ...]:
    """The tensors that the optimizer within a ZeRO optimizer, AdamW or SGD, holds for each weight."""
    if isinstance(zero.optimizer, torch.optim.SGD):
        return ("momentum_buffer",) if zero.optimizer.defaults["momentum"] else ()
    return ("exp_avg", "exp_avg_sq")


def make_state(zero: Any) -> None:
    """Gives the optimizer its state before the first step.

    Args:
        zero: the ZeRO optimizer of an engine, of any stage.
    """
    state = zero.optimizer.state
    sharded_weights = hasattr(zero, "fp32_partitioned_groups_flat")  # stage 3
    partitions = zero.fp32_partitioned_groups_flat if sharded_weights else zero.single_partition_of_fp32_groups
    counted = {"step": torch.tensor(0.0)} if _counts(zero) else {}
    for partition in partitions:
        if not state[partition]:
            zeros = {kind: torch.zeros_like(partition, requires_grad=False) for kind in kinds(zero)}
            state[partition] = {name: value.clone() for name, value in counted.items()} | zeros
    if not sharded_weights:
        for group, partition in zip(zero.bit16_groups, partitions, strict=True):
            lazy_init_hp_params_optimizer_state(group, partition, state)
        zero._hp_optimizer_states_linked = True


def gather(parameter: nn.Parameter, zero: Any) -> dict[str, Any]:
    """The whole fp32 weight of a parameter and what the optimizer holds for it, on every worker; a collective
    operation."""
    held = {OPTIMIZER + kind: safe_get_full_optimizer_state(parameter, kind) for kind in kinds(zero)}
    if _counts(zero):
        held[OPTIMIZER + "step"] = next(iter(zero.optimizer.state.values()))["step"]
    return {"weights": safe_get_full_fp32_param(parameter), **held}


def scatter(parameter: nn.Parameter, weight: Tensor, held: dict[str, Tensor], worker: int, zero: Any) -> None:
    """Puts this worker's part of a whole weight, and of what the optimizer holds for it, into its shards."""
    shard = getattr(parameter, "ds_tensor", None)
    if "step" in held:  # one count for all
        for values in zero.optimizer.state.values():
            values["step"] = held["step"].clone()
    for kind, value in {"": weight, **{kind: held[kind] for kind in kinds(zero) if kind in held}}.items():
        if shard is None:  # stages 1 and 2
            _set(parameter, value, kind, safe_set_full_fp32_param, safe_set_full_optimizer_state)
        else:  # the last worker's shard is padded, which the function for whole tensors of stage 3 overlooks
            size = shard.numel()
            part = torch.zeros(size, dtype=value.dtype)
            mine = value.flatten()[worker * size : (worker + 1) * size]
            part[: mine.numel()] = mine
            _set(parameter, part, kind, safe_set_local_fp32_param, safe_set_local_optimizer_state)


def clear_gradients(zero: Any) -> None:
    """Forgets the gradients of the step before, in stage 3: there the first backward pass of a step overwrites them,
    and so only those that this pass reaches, while later ones add to what they find."""
    if hasattr(zero, "grad_partitions_flat_buffer"):
        zero.grad_partitions_flat_buffer.zero_()


def _counts(zero: Any) -> bool:
    """Whether the optimizer counts its steps, as AdamW does to correct the bias of its moments."""
    return not isinstance(zero.optimizer, torch.optim.SGD)


def _set(parameter: nn.Parameter, value: Tensor, kind: str, set_weight: Any, set_moment: Any) -> None:
    if kind:
        set_moment(parameter, value, kind)
    else:
        set_weight(parameter, value)
