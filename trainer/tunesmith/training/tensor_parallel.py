"""Tensor parallelism: each linear layer is cut over several workers, by the model's own plan in transformers.

The first linear layer of attention or MLP is cut by columns, the last one by rows, so that the workers exchange one sum
in each (Megatron-LM, Shoeybi et al. 2019, arXiv:1909.08053). The plan is the model's; PyTorch carries it out, since
transformers' own code adds a gradient up twice where a step has several micro-batches.
"""

import re
from fnmatch import fnmatch

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from transformers import PreTrainedModel

from tunesmith.api.load import InputError, Problem
from tunesmith.training.layout import Layout

PLACE = "spec.scaling.tensorParallel"
_SUMMED = "replicated_with_grad_allreduce"
"""Of a whole weight that sees only this worker's heads, such as a norm of queries: its gradients are added up."""
_EMBEDDING = "embedding_rowwise"
"""Each worker holds a part of the vocabulary."""
_WHOLE = ("colwise_gather_output", "colwise_rep")


def cut_layers(model: PreTrainedModel, mesh: DeviceMesh) -> set[str]:
    """Cuts a model in place.

    Args:
        model: whole, alike on every worker.
        mesh: the workers that share its layers.

    Returns:
        The names of the whole weights whose gradients are to be summed over these workers.

    Raises:
        InputError: the model has no plan, or one that cannot be followed with so many workers.
    """
    plan: dict[str, str] = dict(model.tp_plan or {})
    if not plan:
        raise InputError(Problem(f"{type(model).__name__} has no plan for it in transformers; use fsdp", PLACE))
    refuse_uneven(model, mesh.size())
    if model.config.get_text_config().tie_word_embeddings:
        plan = {name: kind for name, kind in plan.items() if kind not in (_EMBEDDING, *_WHOLE)}  # one weight for both
    odd = sorted(set(plan.values()) - {"colwise", "rowwise", _EMBEDDING, *_WHOLE, _SUMMED})
    if odd:
        raise InputError(Problem(f"{type(model).__name__} needs {odd[0]}, which is not supported; use fsdp", PLACE))
    # a new object for each layer: PyTorch keeps something of a layer in it
    styles = {name: _style(kind) for name, kind in _each(model, plan).items() if kind != _SUMMED}
    parallelize_module(model, mesh, styles)
    summed = {name for name, kind in _each(model, plan).items() if kind == _SUMMED}
    return {f"{name}.{weight}" for name in summed for weight, _ in model.get_submodule(name).named_parameters()}


def refuse_uneven(model: PreTrainedModel, workers: int) -> None:
    """Refuses a number of workers that does not divide what is cut."""
    config = model.config.get_text_config()
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        size = getattr(config, name, None)
        if isinstance(size, int) and size % workers:
            what = name.removeprefix("num_").replace("_", " ")
            message = (
                f"is {workers}, which does not divide the model's {size} {what}"
                if "num" in name
                else (f"is {workers}, which does not divide the model's {what} of {size}")
            )
            raise InputError(Problem(message, PLACE))


def sum_gradients(parameters: list[nn.Parameter], layout: Layout) -> None:
    """Adds up the gradients of weights that see only a part of the heads; once a step."""
    for parameter in parameters:
        if parameter.grad is not None:
            dist.all_reduce(local(parameter.grad), group=layout.tensor_group())


def average_gradients(model: nn.Module, layout: Layout) -> None:
    """The mean of the gradients over the data-parallel workers, where nothing else takes it; once a step."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            gradient = local(parameter.grad)
            dist.all_reduce(gradient, group=layout.data_group())
            gradient.div_(layout.data_workers)


def local(tensor: Tensor) -> Tensor:
    """What this worker holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _each(model: nn.Module, plan: dict[str, str]) -> dict[str, str]:
    """The plan by the names of layers."""
    return {
        name: kind
        for name, _ in model.named_modules()
        for pattern, kind in plan.items()
        if fnmatch(re.sub(r"\.\d+(?=\.|$)", ".*", name), pattern)
    }


def _style(kind: str) -> ParallelStyle:
    if kind == "rowwise":
        return RowwiseParallel()
    if kind == _EMBEDDING:
        return RowwiseParallel(input_layouts=Replicate())
    return ColwiseParallel(output_layouts=Replicate()) if kind in _WHOLE else ColwiseParallel()
