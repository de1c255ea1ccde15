"""Adapters as things of their own: attached to a base, several at once, combined, merged, taken off again."""

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from tunesmith.api.load import InputError, Problem
from tunesmith.models.prompts import make_room_for_prompt

PLACE = "spec.model.source"
WEIGHTS = "adapter_model.safetensors"

Combination = Literal["cat", "svd", "linear"]


def adapter_folder(path: Path) -> Path:
    """The adapter of a run's folder, or a folder that is one itself.

    Raises:
        InputError: there is none.
    """
    for folder in (path / "adapter", path / "model", path):
        if (folder / "adapter_config.json").exists():
            return folder
    raise InputError(Problem("holds no adapter: adapter_config.json is missing", file=str(path)))


def read_config(folder: Path) -> Any:
    """What peft notes of an adapter.

    Raises:
        InputError: it cannot be read.
    """
    from peft import PeftConfig

    try:
        return PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(Problem(f"adapter_config.json is damaged: {_line(error)}", file=str(folder))) from None


def attach(model: PreTrainedModel, base: str, folder: Path, name: str = "default") -> Any:
    """Puts an adapter on its base, or on a base that carries others already.

    Args:
        model: the base, or what this returned for an earlier adapter.
        base: what the base is called, for messages.
        folder: the adapter's.
        name: what the adapter is called from now on.

    Returns:
        A PeftModel whose active adapter is the first that was put on it.

    Raises:
        InputError: the adapter does not fit the base, or its file is damaged.
    """
    from peft import PeftModel

    config = read_config(folder)
    first = not isinstance(model, PeftModel)
    if not first and model.active_peft_config.is_prompt_learning != config.is_prompt_learning:
        raise InputError(Problem(f"does not go with what {base} carries already", file=str(folder)))
    _refuse_misfit(model if first else model.get_base_model(), base, folder, config)
    try:
        with warnings.catch_warnings():
            # of AdaLoRA, whose pattern of ranks peft compares with what LoRA means by that
            warnings.filterwarnings("ignore", "The following rank_pattern keys", RuntimeWarning)
            model = _attached(model, folder, name, config)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(Problem(f"does not fit {base}: {_line(error)}", PLACE, file=str(folder))) from None
    return model


def _attached(model: Any, folder: Path, name: str, config: Any) -> Any:
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.load_adapter(str(folder), name)
        return model
    model = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    if config.peft_type == "P_TUNING":
        make_room_for_prompt(model)
    return model


def load_adapters(folders: Mapping[str, Path], dtype: torch.dtype | str = torch.float32) -> Any:
    """A base with several adapters on it, by name; the first is active.

    Args:
        folders: runs' folders, or adapters' own.
        dtype: of the base's weights.

    Raises:
        InputError: one is missing or damaged, they have different bases, or one does not fit.
    """
    from tunesmith.models.load import ModelLocation, kind_at, load_model

    found = {name: adapter_folder(folder) for name, folder in folders.items()}
    bases = {name: ModelLocation(str(folder)).adapter_base for name, folder in found.items()}
    first, *others = found
    for other in others:
        if bases[other] != bases[first]:
            message = f"belongs to {_named(bases[other])}, and {found[first]} to {_named(bases[first])}"
            raise InputError(Problem(f"{message}: they share no base", file=str(found[other])))
    base = bases[first]
    assert base is not None
    model: Any = load_model(base, dtype, kind=kind_at(base))
    for name, folder in found.items():
        model = attach(model, base.name, folder, name)
    return model.eval()


@contextmanager
def active(model: Any, name: str) -> Iterator[Any]:
    """The model with one of its adapters, for a batch; then with the one before again."""
    before = model.active_adapter
    model.set_adapter(name, inference_mode=True)
    try:
        yield model
    finally:
        model.set_adapter(before, inference_mode=True)


def detach(model: Any, name: str) -> Any:
    """Takes an adapter off and frees its memory; with the last one gone, returns the bare base."""
    if list(model.peft_config) == [name]:
        return model.get_base_model() if model.active_peft_config.is_prompt_learning else model.unload()
    if model.active_adapter == name:
        model.set_adapter(next(other for other in model.peft_config if other != name), inference_mode=True)
    model.delete_adapter(name)
    return model


def combine(
    model: Any, weights: Mapping[str, float], name: str, how: Combination = "cat", rank: int | None = None
) -> None:
    """Adds an adapter that is made of others.

    Args:
        model: carries them.
        weights: of each one's change of the weights.
        name: of the new one.
        how: `cat` is the weighted sum exactly, of rank r1 + r2 + ...; `svd` its best approximation of rank `rank`;
            `linear` adds the factors A and B instead of their products, which is not the sum of the changes.
        rank: for svd; the highest of theirs by default.

    Raises:
        InputError: they cannot be combined.
    """
    from peft.tuners.lora import LoraLayer

    configs = {adapter: model.peft_config[adapter] for adapter in weights}
    for adapter, config in configs.items():
        if config.peft_type != "LORA" or config.use_dora:
            kind = "DoRA" if config.peft_type == "LORA" else str(config.peft_type.value)
            instead = "" if config.is_prompt_learning else "; merge it instead"
            message = f"is of type {kind}: only plain LoRA adapters are sums of products{instead}"
            raise InputError(Problem(message, adapter))
        if config.modules_to_save:
            listing = ", ".join(config.modules_to_save)
            raise InputError(Problem(f"holds whole modules too ({listing}), which do not add up", adapter))
    if len({type(config.target_modules) for config in configs.values()}) > 1:  # peft unites lists, or expressions
        for adapter, config in configs.items():
            config.target_modules = {
                module_name
                for module_name, module in model.get_base_model().named_modules()
                if isinstance(module, LoraLayer) and adapter in module.lora_A
            }
    ranks = {config.r for config in configs.values()}
    if how == "linear" and len(ranks) > 1:
        listing = ", ".join(map(str, sorted(ranks)))
        raise InputError(Problem(f"linear needs equal ranks, these are {listing}; use cat or svd", "--how"))
    model.add_weighted_adapter(list(weights), list(weights.values()), name, how, svd_rank=rank)
    # the factors hold all of the scaling: the new adapter's own must be 1, which rsLoRA's of its first part is not
    model.peft_config[name].use_rslora = False
    for module in model.modules():
        if isinstance(module, LoraLayer) and name in module.scaling:
            module.scaling[name] = 1.0


def save(model: Any, name: str, target: Path, like: Path) -> None:
    """Writes one of a model's adapters to a folder that peft and `model.source` read.

    Args:
        model: carries it.
        name: its name there.
        target: where to; must not exist.
        like: the folder of an adapter of the same base, for the base's name and the tokenizer.

    Raises:
        InputError: the target exists.
    """
    refuse_existing(target)
    origin = read_config(like)
    config = model.peft_config[name]
    config.base_model_name_or_path, config.revision = origin.base_model_name_or_path, origin.revision
    partial = target.with_name(f".partial-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial, selected_adapters=[name], save_embedding_layers=False)
    for file in like.iterdir():
        if file.is_file() and not file.name.startswith("adapter_") and file.name != "README.md":
            shutil.copy(file, partial / name / file.name)
    (partial / name).rename(target)
    shutil.rmtree(partial)


def refuse_existing(target: Path) -> None:
    """Keeps what is there.

    Raises:
        InputError: something is.
    """
    if target.exists():
        raise InputError(Problem("exists already; choose another --output", file=str(target)))


def merged(model: Any) -> PreTrainedModel:
    """The base with its active adapter in its weights; one that is no change of weights stays beside it."""
    if model.active_peft_config.is_prompt_learning:
        kept: PreTrainedModel = model
        return kept
    whole: PreTrainedModel = model.merge_and_unload()
    return whole


def _refuse_misfit(model: PreTrainedModel, base: str, folder: Path, config: Any) -> None:
    from peft import PeftModel

    if isinstance(model, PeftModel):
        message = f"belongs to {base}, which is a prefix or a prompt itself: nothing can be put on that"
        raise InputError(Problem(message, file=str(folder)))
    for key, shape in _shapes(folder).items():
        found = _prompt_misfit(model, shape, config) if config.is_prompt_learning else _layer_misfit(model, key, shape)
        if found:
            raise InputError(Problem(f"does not fit its base {base}: {found}", PLACE, file=str(folder)))


def _shapes(folder: Path) -> dict[str, list[int]]:
    """The shapes of an adapter's tensors by name; every tensor is read, so that a damaged file is noticed."""
    file = folder / WEIGHTS
    try:
        with safe_open(file, "pt") as tensors:
            return {key: list(tensors.get_tensor(key).shape) for key in tensors.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise InputError(Problem(f"is damaged: {_line(error)}", file=str(file))) from None


def _layer_misfit(model: nn.Module, key: str, shape: list[int]) -> str | None:
    """What is wrong with a tensor of a low-rank adapter, if anything is."""
    name, _, part = key.removeprefix("base_model.model.").partition(".lora_")
    if not part:  # a weight that was trained as a whole: the head of a reward model
        name = name.rpartition(".")[0]
    try:
        layer: Any = model.get_submodule(name)
    except AttributeError:
        return f"it has no module {name}"
    if not part:
        found = list(layer.weight.shape)
        return None if shape == found else f"{name} is {found} there, and the adapter's is {shape}"
    inside, outside = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
    expected = {"A": (1, inside), "B": (0, outside), "m": (0, outside)}.get(part[0])
    if inside is None or expected is None or shape[expected[0]] == expected[1]:
        return None
    return f"{name} is [{outside}, {inside}] there, and the adapter's lora_{part} is {shape}"


def _prompt_misfit(model: PreTrainedModel, shape: list[int], config: Any) -> str | None:
    text = model.config.get_text_config()
    if config.peft_type == "P_TUNING":
        width, place = model.get_input_embeddings().weight.shape[1], "the embeddings are"
    else:
        heads_of_queries = text.num_attention_heads
        heads = getattr(text, "num_key_value_heads", None) or heads_of_queries
        size = (
            getattr(text, "head_dim", None)
            or getattr(text, "d_kv", None)
            or text.hidden_size // text.num_attention_heads
        )
        width, place = 2 * text.num_hidden_layers * heads * size, "the keys and values of all layers are"
    if shape == [config.num_virtual_tokens, width]:
        return None
    return f"{place} {width} wide there, and the adapter's prompt_embeddings are {shape}"


def _named(location: Any) -> str:
    return location.name if location is not None else "no base"


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
