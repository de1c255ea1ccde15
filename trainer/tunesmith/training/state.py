"""The trained state by name, whole, whatever holds it: a checkpoint does not depend on the number of workers."""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from tunesmith.training.heap import give_back

State = dict[str, dict[str, Tensor]]
"""`weights`, and what the optimizer holds (`optimizer.exp_avg`, ...), each a tensor by parameter name, in its own type;
and what else a run trains."""

OPTIMIZER = "optimizer."
"""How the names of the optimizer's parts begin."""


def unwrapped(model: Any) -> nn.Module:
    """A model without what DDP or DeepSpeed put around it; accelerate's way imports DeepSpeed, used or not, which takes
    1.5 s and 100 MiB."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    bare: nn.Module = model
    return bare


def trained_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights that are trained, with their names in the unwrapped model."""
    yield from ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def gather_state(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> State:
    """The whole state on the CPU; every worker must call this, the first one gets the tensors."""
    give_back()
    state: State = {"weights": {}}
    for name, parameter in trained_parameters(unwrapped(model)):
        if accelerator.distributed_type == "DEEPSPEED":
            from tunesmith.training import zero  # imports DeepSpeed

            values = zero.gather(parameter, model.optimizer)
        else:
            values = {"weights": parameter} | {OPTIMIZER + k: v for k, v in optimizer.state.get(parameter, {}).items()}
        for part, value in values.items():
            tensor = whole(value)
            if accelerator.is_main_process:
                state.setdefault(part, {})[name] = tensor
    return state


def whole(value: Any) -> Tensor:
    """A tensor put together from the workers' shards, or a number as a tensor; a copy on the CPU."""
    tensor = torch.as_tensor(value.full_tensor() if isinstance(value, DTensor) else value)
    return tensor.detach().to("cpu", copy=True).contiguous()


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Puts a checkpoint's weights into a model that is not wrapped yet.

    Raises:
        ValueError: the names differ.
    """
    parameters = dict(trained_parameters(model))
    if parameters.keys() != weights.keys():
        odd = sorted(parameters.keys() ^ weights.keys())
        raise ValueError(f"the checkpoint is of another model: {odd[0]} is in one of them only")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def scatter_state(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, state: State) -> None:
    """Puts a whole state, which every worker has read, into a wrapped model and its optimizer."""
    held = {part.removeprefix(OPTIMIZER): values for part, values in state.items() if part.startswith(OPTIMIZER)}
    for name, parameter in trained_parameters(unwrapped(model)):
        mine = {key: values[name] for key, values in held.items() if name in values}
        if accelerator.distributed_type == "DEEPSPEED":
            from tunesmith.training import zero  # imports DeepSpeed

            zero.scatter(parameter, state["weights"][name], mine, accelerator.process_index, model.optimizer)
        elif mine:
            optimizer.state[parameter] = {key: _put(value, parameter) for key, value in mine.items()}


def _put(value: Tensor, parameter: nn.Parameter) -> Any:
    """A value as the optimizer held it: a number, or a tensor beside its parameter."""
    if value.ndim == 0 and value.dtype in (torch.int64, torch.float64):
        return value.item()
    return place_like(value, parameter) if value.shape == parameter.shape else value.to(parameter.device)


def place_like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """A whole tensor where a parameter is, and cut as it is."""
    if not isinstance(parameter, DTensor):
        return value.to(parameter.device)
    # every worker has read the whole, so that none needs to be sent its shard
    return distribute_tensor(
        value.to(parameter.to_local().device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
