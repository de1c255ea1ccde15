"""Whole tensors out of DeepSpeed's shards, and back into them, for checkpoints that any number of workers can read.

DeepSpeed's own checkpoints fit one number of workers, its universal ones need a conversion; its functions for single
parameters do neither, but want the optimizer's state to be there, which it makes at the first step only, and link it
after the first of several parameter groups has stepped. `make_moments` makes and links it all before.
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

from tunesmith.training.state import MOMENTS


def make_moments(zero: Any) -> None:
    """Gives AdamW its state before the first step.

    Args:
        zero: the ZeRO optimizer of an engine, of any stage.
    """
    state = zero.optimizer.state
    sharded_weights = hasattr(zero, "fp32_partitioned_groups_flat")  # stage 3
    partitions = zero.fp32_partitioned_groups_flat if sharded_weights else zero.single_partition_of_fp32_groups
    for partition in partitions:
        if not state[partition]:
            moments = {moment: torch.zeros_like(partition, requires_grad=False) for moment in MOMENTS}
            state[partition] = {"step": torch.tensor(0.0), **moments}
    if not sharded_weights:
        for group, partition in zip(zero.bit16_groups, partitions, strict=True):
            lazy_init_hp_params_optimizer_state(group, partition, state)
        zero._hp_optimizer_states_linked = True


def gather(parameter: nn.Parameter) -> dict[str, Tensor]:
    """The whole fp32 weight and moments of a parameter, on every worker; a collective operation."""
    moments = {moment: safe_get_full_optimizer_state(parameter, moment) for moment in MOMENTS}
    return {"weights": safe_get_full_fp32_param(parameter), **moments}


def scatter(parameter: nn.Parameter, whole: dict[str, Tensor], worker: int) -> None:
    """Puts this worker's part of a whole weight and its moments into its shards."""
    shard = getattr(parameter, "ds_tensor", None)
    for kind, value in whole.items():
        if shard is None:  # stages 1 and 2
            _set(parameter, value, kind, safe_set_full_fp32_param, safe_set_full_optimizer_state)
        else:  # the last worker's shard is padded, which the function for whole tensors of stage 3 overlooks
            size = shard.numel()
            part = torch.zeros(size, dtype=value.dtype)
            mine = value.flatten()[worker * size : (worker + 1) * size]
            part[: mine.numel()] = mine
            _set(parameter, part, kind, safe_set_local_fp32_param, safe_set_local_optimizer_state)


def set_step(zero: Any, step: int) -> None:
    """Sets AdamW's count of steps, which corrects the bias of its moments."""
    for values in zero.optimizer.state.values():
        values["step"] = torch.tensor(float(step))


def _set(parameter: nn.Parameter, value: Tensor, kind: str, set_weight: Any, set_moment: Any) -> None:
    if kind == "weights":
        set_weight(parameter, value)
    else:
        set_moment(parameter, value, kind)
