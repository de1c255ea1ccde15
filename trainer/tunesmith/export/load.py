"""Loads what `tunesmith export` has written, in any of its formats."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import nn

from tunesmith.api.load import InputError, Problem
from tunesmith.api.objective import ModelKind
from tunesmith.models.kind import kind_of
from tunesmith.models.load import ModelLocation, load_model

NOTE = "export.json"
"""What an export says of itself: its format, what it was made of, and what was measured."""


def load_exported(folder: str | Path) -> nn.Module:
    """The model of an export: a PreTrainedModel, or an OnnxModel, which is called alike.

    Raises:
        InputError: it is not the folder of an export, or a package is missing.
    """
    folder = Path(folder)
    try:
        kind = json.loads((folder / NOTE).read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError):
        message = f"is not what `tunesmith export` has written: it holds no {NOTE}"
        raise InputError(Problem(message, file=str(folder))) from None
    return load_format(folder, kind)


def load_format(folder: Path, kind: str) -> nn.Module:
    """The same for a folder whose format is known."""
    if kind == "onnx":
        from tunesmith.export.onnx import OnnxModel

        return OnnxModel(folder)
    if kind == "int8-static":
        return _load_static(folder).eval()
    location = ModelLocation(str(folder))
    model: nn.Module = load_model(location, "auto", kind=_kind_of(location))
    return model.eval()


def _kind_of(location: ModelLocation) -> ModelKind:
    while location.adapter_base is not None:
        location = location.adapter_base
    return kind_of(transformers.AutoConfig.from_pretrained(location.name, revision=location.revision)) or "decoder"


def _load_static(folder: Path) -> nn.Module:
    """transformers 5.23 knows of no scale for activations among torchao's tensors, and so refuses these files; torchao
    itself puts them together."""
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    config = transformers.AutoConfig.from_pretrained(folder)
    architecture: Any = getattr(transformers, config.architectures[0])
    model: Any = architecture._from_config(config, dtype=config.dtype)
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    names: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as part:
            tensors |= {name: part.get_tensor(name) for name in part.keys()}  # noqa: SIM118  # it is no dictionary
            names += json.loads(part.metadata()["tensor_names"])
            metadata |= part.metadata()
    weights, _ = unflatten_tensor_state_dict(tensors, metadata | {"tensor_names": json.dumps(names)})
    model.load_state_dict(weights, assign=True, strict=False)
    model.tie_weights()
    whole: nn.Module = model
    return whole
