"""Which kind of model an objective needs, and what a model in files is."""

from typing import Any

from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
)

from tunesmith.api.load import InputError, Problem
from tunesmith.api.objective import ModelKind

_CLASSES: dict[ModelKind, Any] = {
    "decoder": AutoModelForCausalLM,
    "encoder": AutoModelForMaskedLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
_OBJECTIVES: dict[ModelKind, str] = {
    "decoder": "causalLM or instruction",
    "encoder": "maskedLM",
    "encoder-decoder": "seq2seq",
}
_TASKS: dict[ModelKind | None, str] = {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM"}


def auto_class(kind: ModelKind) -> Any:
    """The class of transformers that loads models of a kind."""
    return _CLASSES[kind]


def kind_of(config: PretrainedConfig) -> ModelKind | None:
    """The kind of model that a configuration describes; None where it is no language model."""
    if config.is_encoder_decoder and type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return "encoder-decoder"
    # an encoder that was made a decoder says so
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return "encoder"
    return "decoder" if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else None


def task_type(model: PreTrainedModel) -> str | None:
    """What peft calls a model's kind; for encoders that fill in words it has no name, and needs none."""
    return _TASKS.get(kind_of(model.config))


def refuse_other_kind(name: str, revision: str | None, kind: ModelKind) -> None:
    """Refuses a model of another kind than the objective needs, before anything else of it is read.

    Raises:
        InputError: it is of another kind; what cannot be read is left to be told by who reads it.
    """
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError):
        return
    if any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        message = "is a reward model or another classifier, which writes no text; start from a language model"
        raise InputError(Problem(message, "spec.model.source"))
    found = kind_of(config)
    if found is not None and found != kind:
        message = f"is of the kind {found} ({config.model_type}), but the objective needs the kind {kind}"
        remedy = f"set objective to {_OBJECTIVES[found]}, or choose another model"
        raise InputError(Problem(f"{message}; {remedy}", "spec.model.source"))


def start_token(model: PreTrainedModel) -> int:
    """What the decoder of an encoder-decoder starts from.

    Raises:
        InputError: its configuration does not say.
    """
    for config in (model.config, model.generation_config):
        token = getattr(config, "decoder_start_token_id", None)
        if token is not None:
            return int(token)
    raise InputError(Problem("its config.json does not say decoder_start_token_id", "spec.model.source"))


def first_position(model: PreTrainedModel) -> int:
    """The position of a row's first token: RoBERTa and its kin count from behind the padding token's number."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else int(module.padding_idx) + 1
    return 0
