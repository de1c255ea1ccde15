"""The trained state by name, whole, whatever holds it: a checkpoint does not depend on the number of workers."""

from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

MOMENTS = ("exp_avg", "exp_avg_sq")

State = dict[str, dict[str, Tensor]]
"""`weights`, `exp_avg` and `exp_avg_sq`, each a tensor in fp32 by parameter name."""


def trained_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights that are trained, with their names in the unwrapped model."""
    yield from ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def gather_state(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> State:
    """The whole state on the CPU; every worker must call this, the first one gets the tensors."""
    gather = _gather_function(accelerator)
    state: State = {"weights": {}, **{moment: {} for moment in MOMENTS}}
    for name, parameter in trained_parameters(accelerator.unwrap_model(model)):
        values = gather(parameter) if gather else _local(parameter, optimizer)
        if accelerator.is_main_process:
            for kind, value in values.items():
                state[kind][name] = value.detach().to("cpu", torch.float32, copy=True).contiguous()
    return state


def _local(parameter: nn.Parameter, optimizer: Optimizer) -> dict[str, Tensor]:
    moments = optimizer.state.get(parameter, {})
    zeros = torch.zeros_like(parameter)
    return {"weights": parameter, **{moment: moments.get(moment, zeros) for moment in MOMENTS}}


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


def scatter_state(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, state: State, step: int) -> None:
    """Puts a whole state, which every worker has read, into a wrapped model and its optimizer."""
    sharded = accelerator.distributed_type == "DEEPSPEED"
    for name, parameter in trained_parameters(accelerator.unwrap_model(model)):
        whole = {kind: state[kind][name] for kind in ("weights", *MOMENTS)}
        if sharded:
            from tunesmith.training import zero

            zero.scatter(parameter, whole, accelerator.process_index)
        else:
            moments = {moment: whole[moment].to(parameter.device) for moment in MOMENTS}
            optimizer.state[parameter] = {"step": torch.tensor(float(step), device=parameter.device), **moments}
    if sharded:
        zero.set_step(model.optimizer, step)


def _gather_function(accelerator: Accelerator) -> Callable[[nn.Parameter], dict[str, Tensor]] | None:
    """How a whole tensor is put together, where workers hold parts; DeepSpeed is imported only there."""
    if accelerator.distributed_type != "DEEPSPEED":
        return None
    from tunesmith.training import zero

    return zero.gather
