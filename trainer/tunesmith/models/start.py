"""The model of a job: the base it starts from, and what of it is trained."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.pod import RunFolder
from tunesmith.data.encode import whole_text
from tunesmith.data.rows import Row
from tunesmith.data.sample import spread_sample
from tunesmith.models.build import build_model
from tunesmith.models.kind import refuse_other_kind
from tunesmith.models.load import load_model, load_tokenizer, locate
from tunesmith.models.methods import add_adapter
from tunesmith.models.prompts import virtual_tokens
from tunesmith.models.reward import with_reward_head
from tunesmith.models.tokenizer import train_tokenizer
from tunesmith.sources import Resolver

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def start_tokenizer(
    spec: FineTuneJobSpec, resolver: Resolver, folder: RunFolder, rows: Iterable[Row]
) -> PreTrainedTokenizerBase:
    """The tokenizer of the model, or of a run that trained one before; a new model's is trained on `rows`, or on a
    part of them where they are many."""
    if spec.model.config is None:
        location = locate(spec.model, resolver)
        whole = location.adapter_base or location
        refuse_other_kind(whole.name, whole.revision, spec.objective.kind)
        return load_tokenizer(location, spec.objective.kind)
    if (folder.tokenizer / "tokenizer.json").exists():
        from tunesmith.models.load import ModelLocation

        return load_tokenizer(ModelLocation(str(folder.tokenizer)), spec.objective.kind)
    chat = spec.objective.instruction is not None and spec.objective.instruction.template is None
    return train_tokenizer(spread_sample(whole_text(row, spec) for row in rows), spec.model.config, chat)


def base_model(
    spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype | str
) -> PreTrainedModel:
    """The model that training starts from, unquantized."""
    if spec.model.config is not None:
        return build_model(spec.model.config, tokenizer, spec.training.seed)
    location, kind = locate(spec.model, resolver), spec.objective.kind
    model = load_model(location, dtype, kind=kind, frozen=spec.method.full is None)
    if virtual_tokens(model):
        assert location.adapter_base is not None
        message = (
            f"is a prefix or a prompt, which no weights can hold; start from its base, {location.adapter_base.name},"
        )
        raise InputError(Problem(f"{message} instead", "spec.model.source"))
    return _with_head(model, spec, tokenizer)


def _with_head(model: PreTrainedModel, spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """What the objective puts on a language model."""
    return model if spec.objective.reward is None else with_reward_head(model, int(tokenizer.pad_token_id))


def trainable_model(spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model with the weights that are trained, in fp32; frozen weights are in the type of the matrix products."""
    if spec.method.full is not None:
        return base_model(spec, resolver, tokenizer, torch.float32)
    dtype = DTYPES[spec.training.precision]
    if spec.model.quantization is not None:
        where, kind = locate(spec.model, resolver), spec.objective.kind
        model = _with_head(load_model(where, dtype, spec.model.quantization, kind, frozen=True), spec, tokenizer)
    else:
        model = base_model(spec, resolver, tokenizer, dtype)
    return add_adapter(model, spec.method, spec.training.seed)


def save_base_name(adapter: Path, name: str, revision: str | None) -> None:
    """Notes in an adapter's folder which base it belongs to."""
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(adapter))
    config.base_model_name_or_path, config.revision = name, revision
    config.save_pretrained(str(adapter))
