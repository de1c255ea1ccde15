"""Saves a model around which there is nothing of DDP or DeepSpeed."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, modeling_utils


def save_bare(model: PreTrainedModel, folder: Path, **options: Any) -> None:
    """`save_pretrained`, but for its first step: there it takes off what is around a model by accelerate's means, which
    import DeepSpeed where it is installed, and with it what DeepSpeed finds: 2 s, and 130 MiB.

    Args:
        model: transformers', or peft's; not wrapped.
        folder: where it goes.
        options: of `save_pretrained`.
    """
    unwrap = modeling_utils.unwrap_model
    modeling_utils.unwrap_model = _as_it_is
    try:
        model.save_pretrained(folder, **options)
    finally:
        modeling_utils.unwrap_model = unwrap


def _as_it_is(model: Any, recursive: bool = False) -> Any:
    return model
