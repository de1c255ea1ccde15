"""Loads the model and the tokenizer that a job starts from: from the Hub, a folder, or another job."""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.load import InputError, Problem
from tunesmith.api.model import ModelSpec, Quantization
from tunesmith.api.objective import ModelKind
from tunesmith.api.source import Location
from tunesmith.models.kind import auto_class, kind_of
from tunesmith.sources import Resolver

log = logging.getLogger(__name__)

PLACE = "spec.model.source"


@dataclass(frozen=True)
class ModelLocation:
    """Where from_pretrained finds a model."""

    name: str
    """A folder, or a repository of the Hub."""
    revision: str | None = None

    @property
    def adapter_base(self) -> "ModelLocation | None":
        """The base that a folder with only an adapter belongs to."""
        if not (Path(self.name) / "adapter_config.json").exists():
            return None
        from tunesmith.models.adapters import read_config

        config = read_config(Path(self.name))
        return ModelLocation(str(config.base_model_name_or_path), config.revision)


def locate(spec: ModelSpec, resolver: Resolver) -> ModelLocation:
    """Where the weights of `spec.model.source` are; see `locate_source`."""
    assert spec.source is not None
    return locate_source(spec.source, resolver, PLACE)


def locate_source(source: str, resolver: Resolver, place: str) -> ModelLocation:
    """Where the weights of a model are.

    Args:
        source: its address.
        resolver: finds it.
        place: the field that holds the address, for messages.

    Raises:
        InputError: the folder is missing, or holds no weights.
    """
    location = Location.parse(source)
    if location.scheme == "hf":
        return ModelLocation(location.name, location.revision)
    folder = resolver.path(location, place)
    if not folder.is_dir():
        raise InputError(Problem(f"{folder} is not a folder with a model", place))
    if not any((folder / name).exists() for name in ("config.json", "adapter_config.json")):
        raise InputError(
            Problem(f"{folder} holds no config.json: it is not a model in the format of transformers", place)
        )
    if not list(folder.glob("*.safetensors")):
        if (folder / "model").is_dir():
            raise InputError(Problem(f"{folder} is the folder of a run; its model is below: {source}/model", place))
        raise InputError(
            Problem(f"{folder} holds no weights: *.safetensors is missing (other formats are not read)", place)
        )
    return ModelLocation(str(folder.resolve()))


def load_tokenizer(location: ModelLocation, kind: ModelKind = "decoder") -> PreTrainedTokenizerBase:
    """The tokenizer of a model, with a padding token: masks go by position, so any token will do.

    Raises:
        InputError: there is none, or it has no end-of-sequence token, which all but encoders need.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(location.name, revision=location.revision)
    except (OSError, ValueError) as error:
        raise InputError(Problem(f"its tokenizer cannot be loaded: {_first_line(error)}", PLACE)) from None
    if tokenizer.eos_token_id is None and kind != "encoder":
        raise InputError(Problem("its tokenizer has no end-of-sequence token: generation could never stop", PLACE))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.mask_token
    return tokenizer


def load_model(
    location: ModelLocation,
    dtype: torch.dtype | str,
    quantization: Quantization | None = None,
    kind: ModelKind = "decoder",
    frozen: bool = False,
) -> PreTrainedModel:
    """A model for training or evaluation; a folder with an adapter is loaded as its base with the adapter merged,
    or, where that is no change of weights (prefix, ptuning), beside it.

    Weights that its files lack, such as the output of an encoder that was made for embeddings, start at random, always
    at the same values.

    Args:
        location: where it is.
        dtype: type of the weights, or "auto" for that of the files.
        quantization: loads the linear layers in fewer bits.
        kind: which kind of model the objective needs.
        frozen: whether its weights are not trained, and so must all be there.

    Raises:
        InputError: it cannot be loaded, or is of another kind.
    """
    base = location.adapter_base
    if base is not None:
        from tunesmith.models.adapters import attach, merged

        if quantization is not None:
            message = "is an adapter; to quantize its model, set method.lora.merge in the job that trains it"
            raise InputError(Problem(message, PLACE))
        return merged(attach(load_model(base, dtype, kind=kind), base.name, Path(location.name)))
    bits = quantization and BitsAndBytesConfig(
        load_in_4bit=quantization.type == "nf4",
        load_in_8bit=quantization.type == "int8",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=quantization.double_quantization,
        bnb_4bit_compute_dtype=dtype if isinstance(dtype, torch.dtype) else torch.float32,
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: PreTrainedModel
            model, report = auto_class(kind).from_pretrained(
                location.name,
                revision=location.revision,
                dtype=dtype,
                **({"quantization_config": bits} if bits else {}),  # None would hide what config.json says of itself
                trust_remote_code=False,
                use_safetensors=True,
                # a quantized model goes where it is computed at once; others are moved by accelerate
                device_map={"": _device()} if bits else None,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(Problem(f"cannot be loaded: {_first_line(error)}", PLACE)) from None
    except SafetensorError as error:
        message = f"a file of {location.name} is damaged: {_first_line(error)}; copy or download it again"
        raise InputError(Problem(message, PLACE)) from None
    _report_missing(sorted(report["missing_keys"]), frozen)
    if getattr(model, "is_loaded_in_4bit", False):
        _keep_trainable(model)
    return model


def _report_missing(names: list[str], frozen: bool) -> None:
    if not names:
        return
    listing = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    if frozen:
        message = f"its files lack the weights {listing}, which would stay random; use method.full"
        raise InputError(Problem(message, PLACE))
    log.warning("the model's files lack the weights %s: they start at random", listing)


def _keep_trainable(model: PreTrainedModel) -> None:
    """Keeps bitsandbytes from repacking 4-bit weights for inference at the first validation on a CPU with AVX512: that
    is for good, drops the double quantization, and no gradient passes through them any more."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def kind_at(location: ModelLocation) -> ModelKind:
    """The kind of the model in a place, or of an adapter's base there.

    Raises:
        InputError: there is no language model.
    """
    location = location.adapter_base or location
    if Path(location.name).is_absolute() and not Path(location.name).exists():
        raise InputError(Problem(f"{location.name} is gone; put it back", PLACE))
    try:
        config = AutoConfig.from_pretrained(location.name, revision=location.revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(Problem(f"cannot be loaded: {_first_line(error)}", PLACE)) from None
    kind = kind_of(config)
    if kind is None:
        raise InputError(Problem(f"{location.name} ({config.model_type}) is no language model", PLACE))
    return kind


def own_dtype(location: ModelLocation) -> torch.dtype:
    """The type of the weights in a model's files, or in those of an adapter's base."""
    while location.adapter_base is not None:
        location = location.adapter_base
    dtype = AutoConfig.from_pretrained(location.name, revision=location.revision).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def _device() -> int | str:
    return int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def refuse_other_tokenizer(policy: PreTrainedTokenizerBase, location: ModelLocation, place: str) -> None:
    """Refuses a reward model that reads other tokens than a policy writes.

    Raises:
        InputError: their tokenizers differ; names the first difference.
    """
    reward = load_tokenizer(location)
    mine, theirs = policy.get_vocab(), reward.get_vocab()
    differing = sorted(token for token in mine.keys() | theirs.keys() if mine.get(token) != theirs.get(token))
    if differing:
        token = differing[0]
        found = f"{token!r} is token {mine.get(token, 'nothing')} there and {theirs.get(token, 'nothing')} here"
    elif policy.eos_token_id != reward.eos_token_id:
        found = f"answers end with {policy.eos_token!r} there and with {reward.eos_token!r} here"
    elif _splitting(policy) != _splitting(reward):
        found = "they have the same tokens, but cut texts differently"
    else:
        return
    message = f"has another tokenizer than the model in spec.model.source: {found}; train both from the same model"
    raise InputError(Problem(message, place))


def _splitting(tokenizer: PreTrainedTokenizerBase) -> Any:
    """How a tokenizer cuts texts, apart from padding and truncation, which are settings of a call."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    parts = json.loads(backend.to_str())
    return [parts[name] for name in ("normalizer", "pre_tokenizer", "model")]
