"""How a step is spread over workers and computed: DDP or DeepSpeed ZeRO, precision, gradient clipping.

Built on accelerate. Its settings for a CPU are its own: see `make_accelerator`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.optim import Optimizer

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem

_MIXED = {"fp32": "no", "tf32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(spec: FineTuneJobSpec) -> Accelerator:
    """An Accelerator for this process; the process group is there already where there are several workers.

    Raises:
        InputError: the precision or the strategy does not work on this device.
    """
    on_cpu = not torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cpu" if on_cpu else "cuda")  # accelerate may ask DeepSpeed, used or not
    precision = spec.training.precision
    if precision == "fp16" and on_cpu:
        raise InputError(Problem("fp16 needs a GPU; use bf16 on a CPU", "spec.training.precision"))
    arguments: dict[str, Any] = {"mixed_precision": _MIXED[precision]}
    if spec.scaling.deepspeed is not None:
        # with cpu=True accelerate ignores DeepSpeed; without the backend it counts one process where there are more
        plugin = DeepSpeedPlugin(
            zero_stage=spec.scaling.deepspeed.zero_stage,
            gradient_accumulation_steps=1,
            gradient_clipping=spec.training.max_grad_norm,
            zero3_init_flag=False,
        )
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1  # unused: the loop normalises by tokens itself
        arguments |= {
            "deepspeed_plugin": plugin,
            "kwargs_handlers": [InitProcessGroupKwargs(backend="gloo" if on_cpu else "nccl")],
        }
    else:
        arguments |= {"cpu": on_cpu, "kwargs_handlers": [DistributedDataParallelKwargs(gradient_as_bucket_view=True)]}
    accelerator = Accelerator(**arguments)
    _load_models_whole()
    expected = dist.get_world_size() if dist.is_initialized() else 1
    if accelerator.num_processes != expected:
        raise RuntimeError(f"accelerate sees {accelerator.num_processes} workers where there are {expected}")
    return accelerator


def _load_models_whole() -> None:
    """Undoes what accelerate tells transformers of ZeRO-3: from_pretrained would become a collective operation, where
    the first worker waits for ever when it alone loads a model to export it."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def make_optimizer(model: nn.Module, spec: FineTuneJobSpec) -> Optimizer:
    """AdamW over the trainable weights; weight decay on matrices only."""
    training, adamw = spec.training, spec.training.optimizer.adamw
    assert adamw is not None
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=training.learning_rate,
        betas=(adamw.beta1, adamw.beta2),
        eps=adamw.epsilon,
        fused=spec.scaling.deepspeed is None,
    )


def prepare(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Any]:
    """Wraps a model and its optimizer for the strategy."""
    prepared, wrapped = accelerator.prepare(model, optimizer)
    _load_models_whole()
    if accelerator.distributed_type == "DEEPSPEED":
        from tunesmith.training import zero

        zero.make_moments(prepared.optimizer)
    return prepared, wrapped


@contextmanager
def only_last_synchronises(accelerator: Accelerator, model: nn.Module, last: bool) -> Iterator[None]:
    """Gradients of a step's micro-batches are added up locally; the workers exchange them after the last one."""
    accelerator.gradient_state._set_sync_gradients(last)
    if last or accelerator.distributed_type == "DEEPSPEED":  # DeepSpeed takes it from the line above
        yield
    else:
        with accelerator.no_sync(model):
            yield


@contextmanager
def first_worker_first(accelerator: Accelerator) -> Iterator[bool]:
    """The first worker does something (True) before the others do (False), however long it takes.

    If it fails, it leaves its process group, which wakes the others.
    """
    if accelerator.num_processes == 1:
        yield True
        return
    group: Any = dist.new_group(backend="gloo", timeout=timedelta(days=7))  # the usual one would give up in minutes
    if not accelerator.is_main_process:
        dist.barrier(group)
    yield accelerator.is_main_process
    if accelerator.is_main_process:
        dist.barrier(group)
    dist.destroy_process_group(group)


def sum_over_workers(accelerator: Accelerator, values: Tensor) -> Tensor:
    """The sum of a small tensor over all workers."""
    if accelerator.num_processes > 1:
        dist.all_reduce(values)
    return values
