"""How a step is spread over workers and computed: DDP, ZeRO, FSDP2, tensor parallelism; precision, clipping.

Built on accelerate. Its settings for a CPU are its own: see `make_accelerator`.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.training import TrainingSpec
from tunesmith.training import fsdp, tensor_parallel
from tunesmith.training.layout import DATA, TENSOR, Layout
from tunesmith.training.optimizer import make_optimizer

_MIXED = {"fp32": "no", "tf32": "no", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True)
class Prepared:
    """A model and its optimizer, ready for the loop."""

    model: nn.Module
    """Wrapped, or cut in place."""
    optimizer: Any
    """In accelerate's wrapper."""
    name: str
    """Of the strategy, for the log."""
    finish_gradients: Callable[[], None] = lambda: None
    """What the workers do to their gradients once a step, where neither DDP nor FSDP2 nor DeepSpeed does it."""


def in_precision(accelerator: Accelerator) -> AbstractContextManager[Any]:
    """Computes in the precision of the run."""
    return accelerator.autocast() if accelerator.mixed_precision != "no" else nullcontext()


def make_accelerator(spec: FineTuneJobSpec) -> Accelerator:
    """An Accelerator for this process; the process group is there already where there are several workers.

    Raises:
        InputError: the precision or the strategy does not work on this device.
    """
    on_cpu = not torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cpu" if on_cpu else "cuda")  # accelerate may ask DeepSpeed, used or not
    precision = spec.training.precision
    if precision in ("fp16", "tf32") and on_cpu:
        raise InputError(Problem(f"{precision} needs a GPU; use bf16 or fp32 on a CPU", "spec.training.precision"))
    adamw = spec.training.optimizer.adamw
    if adamw is not None and adamw.paged and on_cpu:
        raise InputError(Problem("needs a GPU; set it to false", "spec.training.optimizer.adamw.paged"))
    if not on_cpu:  # a setting of the process, so set either way
        torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        torch.backends.cudnn.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    arguments: dict[str, Any] = {"mixed_precision": _MIXED[precision]}
    deepspeed = spec.scaling.deepspeed
    if deepspeed is not None:
        # with cpu=True accelerate ignores DeepSpeed; without the backend it counts one process where there are more
        plugin = DeepSpeedPlugin(
            zero_stage=deepspeed.zero_stage,
            offload_optimizer_device="cpu" if deepspeed.offload else "none",
            offload_param_device="cpu" if deepspeed.offload and deepspeed.zero_stage == 3 else "none",
            gradient_accumulation_steps=1,
            gradient_clipping=spec.training.max_grad_norm,
            zero3_init_flag=False,
        )
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1  # unused: the loop normalises by tokens itself
        # its own AdamW for the CPU has to be compiled; PyTorch's does the same
        plugin.deepspeed_config["zero_force_ds_cpu_optimizer"] = False
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


def prepare(accelerator: Accelerator, model: nn.Module, spec: FineTuneJobSpec, layout: Layout) -> "Prepared":
    """Wraps or cuts a model for the strategy, and makes its optimizer.

    Raises:
        InputError: the model cannot be cut by layers.
    """
    if layout.mesh is not None:
        return _cut(accelerator, model, spec, layout)
    plain = accelerator.distributed_type == "DEEPSPEED"
    prepared, optimizer = accelerator.prepare(model, make_optimizer(model, spec.training, fused=not plain))
    _load_models_whole()
    if plain:
        from tunesmith.training import zero

        zero.make_state(prepared.optimizer)
        return Prepared(prepared, optimizer, f"ZeRO-{prepared.zero_optimization_stage()}")
    return Prepared(prepared, optimizer, "DDP" if layout.workers > 1 else "one worker")


def prepare_roles(
    accelerator: Accelerator, roles: nn.Module, training: TrainingSpec, factor_of: Callable[[str], float]
) -> "Prepared":
    """Wraps the models of PPO for DeepSpeed, or else leaves them as they are: DDP wants one backward pass for one
    forward pass, where policy and value function have two, so that the loop averages gradients itself."""
    if accelerator.distributed_type == "DEEPSPEED":
        from tunesmith.training import zero

        engine, optimizer = accelerator.prepare(
            roles, make_optimizer(roles, training, fused=False, factor_of=factor_of)
        )
        _load_models_whole()
        zero.make_state(engine.optimizer)
        return Prepared(engine, optimizer, f"ZeRO-{engine.zero_optimization_stage()}")
    roles.to(accelerator.device)
    optimizer = accelerator.prepare_optimizer(make_optimizer(roles, training, fused=True, factor_of=factor_of))
    several = accelerator.num_processes > 1
    return Prepared(roles, optimizer, "gradients averaged over workers" if several else "one worker")


def _cut(accelerator: Accelerator, model: Any, spec: FineTuneJobSpec, layout: Layout) -> "Prepared":
    assert layout.mesh is not None
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)  # tells of each exchange
    scaling, names = spec.scaling, []
    offload = scaling.fsdp is not None and scaling.fsdp.offload
    if not offload:
        model.to(accelerator.device)
    summed: list[nn.Parameter] = []
    if layout.tensor > 1:
        names.append("tensor parallel")
        summed_names = tensor_parallel.cut_layers(model, layout.mesh[TENSOR])
    if scaling.fsdp is not None:
        names.append("FSDP2")
        fsdp.shard(model, layout.mesh[DATA], bf16=spec.training.precision == "bf16", offload=offload)
    else:  # only adds autocast: what it is told here keeps DDP away
        model = accelerator.prepare_model(model, evaluation_mode=True)
    if layout.tensor > 1:
        summed = [p for name, p in model.named_parameters() if name in summed_names]
    optimizer = accelerator.prepare_optimizer(make_optimizer(model, spec.training, fused=True))

    def finish() -> None:
        tensor_parallel.sum_gradients(summed, layout)
        if scaling.fsdp is None and layout.data_workers > 1:
            tensor_parallel.average_gradients(model, layout)

    return Prepared(model, optimizer, " and ".join(names), finish)


@contextmanager
def only_last_synchronises(accelerator: Accelerator, model: nn.Module, last: bool) -> Iterator[None]:
    """Gradients of a step's micro-batches are added up locally; the workers exchange them after the last one.

    FSDP2 exchanges them after each, so that no worker holds a whole gradient.
    """
    accelerator.gradient_state._set_sync_gradients(last)
    if last or not isinstance(model, nn.parallel.DistributedDataParallel):  # DeepSpeed takes it from the line above
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


def sum_over_workers(accelerator: Accelerator, values: Tensor, layout: Layout) -> Tensor:
    """The sum of a small tensor over all workers; those that compute the same rows count once."""
    if accelerator.num_processes > 1:
        dist.all_reduce(values)
        values /= layout.tensor
    return values


def clip_gradients(accelerator: Accelerator, model: nn.Module, max_norm: float, max_value: float | None) -> float:
    """Clips each element of the gradient, then scales it down to a global norm.

    Returns:
        The norm before it was scaled down, over all workers. Under DeepSpeed, which has clipped already, what it found.
    """
    if accelerator.distributed_type == "DEEPSPEED":
        norm = accelerator.clip_grad_norm_(model.parameters(), max_norm)
        return float(norm) if norm is not None else 0.0
    accelerator.unscale_gradients()
    by_mesh: dict[Any, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.grad is not None:
            if max_value is not None:
                tensor_parallel.local(parameter.grad).clamp_(-max_value, max_value)
            mesh = parameter.grad.device_mesh if isinstance(parameter.grad, DTensor) else None
            by_mesh.setdefault(mesh, []).append(parameter)
    norms = [nn.utils.get_total_norm([p.grad for p in group if p.grad is not None]) for group in by_mesh.values()]
    whole = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    total = whole[0] if len(whole) == 1 else torch.linalg.vector_norm(torch.stack(whole))
    factor = torch.clamp(max_norm / (total + 1e-6), max=1.0)  # as in torch.nn.utils.clip_grad_norm_
    if factor < 1:
        for parameter in model.parameters():
            if parameter.grad is not None:
                tensor_parallel.local(parameter.grad).mul_(factor)
    return float(total)
