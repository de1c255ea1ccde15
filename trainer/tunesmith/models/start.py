"""The model of a job: the base it starts from, and what of it is trained."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.method import LoraMethod
from tunesmith.api.pod import RunFolder
from tunesmith.data.encode import whole_text
from tunesmith.data.rows import Row
from tunesmith.data.sample import spread_sample
from tunesmith.models.build import build_model
from tunesmith.models.kind import refuse_other_kind, task_type
from tunesmith.models.load import load_model, load_tokenizer, locate
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
    kind, frozen = spec.objective.kind, spec.method.full is None
    return load_model(locate(spec.model, resolver), dtype, kind=kind, frozen=frozen)


def trainable_model(spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model with the weights that are trained, in fp32; frozen weights are in the type of the matrix products."""
    if spec.method.lora is None:
        return base_model(spec, resolver, tokenizer, torch.float32)
    dtype = DTYPES[spec.training.precision]
    if spec.model.quantization is not None:
        where, kind = locate(spec.model, resolver), spec.objective.kind
        model = load_model(where, dtype, spec.model.quantization, kind, frozen=True)
    else:
        model = base_model(spec, resolver, tokenizer, dtype)
    return add_lora(model, spec.method.lora, spec.training.seed)


def add_lora(model: PreTrainedModel, lora: LoraMethod, seed: int) -> PreTrainedModel:
    """Freezes a model and adds low-rank adapters in fp32; they start as the identity."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type=task_type(model),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapted: PreTrainedModel = get_peft_model(model, config, autocast_adapter_dtype=True)
        except ValueError as error:
            message = f"{lora.target_modules!r} matches no layer: {str(error).splitlines()[0]}"
            raise InputError(Problem(message, "spec.method.lora.targetModules")) from None
    return adapted


def save_base_name(adapter: Path, name: str, revision: str | None) -> None:
    """Notes in an adapter's folder which base it belongs to."""
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(adapter))
    config.base_model_name_or_path, config.revision = name, revision
    config.save_pretrained(str(adapter))
