"""FSDP2: weights, gradients and the optimizer's state are cut over the data-parallel workers by PyTorch itself.

accelerate ignores its FSDP plugin on a CPU, without a word; `fully_shard` works on every device.
https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard


def shard(model: nn.Module, mesh: DeviceMesh, *, bf16: bool, offload: bool) -> None:
    """Cuts a model in place: each transformer block is put together when it is needed, and the rest as a whole.

    Args:
        model: on its device, or on the CPU for `offload`.
        mesh: the data-parallel workers.
        bf16: computes in bf16; what is trained stays in fp32, and gradients are added up in it.
        offload: keeps the parts in the CPU's memory between uses.
    """
    policy: dict[str, Any] = {
        "mesh": mesh,
        # everything is cut again at once, the outermost weights too: between two steps every parameter is a shard
        "reshard_after_forward": True,
        "mp_policy": MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy(),
        "offload_policy": CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if offload else OffloadPolicy(),
    }
    for block in blocks(model):
        fully_shard(block, **policy)
    fully_shard(model, **policy)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks: what transformers itself never splits over devices."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in model.modules() if type(module).__name__ in names]
