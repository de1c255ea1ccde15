"""Specs and tokenizers for the tests of data and training."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tunesmith.api.job import FineTuneJobSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODEL = {"hiddenSize": 32, "layers": 2, "attentionHeads": 2, "intermediateSize": 64, "contextLength": 256}


def spec_of(**parts: Any) -> FineTuneJobSpec:
    """A spec that trains a new model on rows.jsonl; a part that is given replaces the whole default one."""
    defaults: dict[str, Any] = {
        "model": {"config": MODEL},
        "dataset": {"train": {"source": "rows.jsonl"}},
        "objective": {"instruction": {"template": "{prompt} {response}"}},
        "method": {"full": {}},
        "training": {"maxLength": 32},
    }
    return FineTuneJobSpec.model_validate(defaults | parts)


def masked_spec(**parts: Any) -> FineTuneJobSpec:
    """A spec that trains a new encoder."""
    return spec_of(**{"model": {"config": MODEL | {"architecture": "bert"}}, "objective": {"maskedLM": {}}} | parts)


def t5_spec(**parts: Any) -> FineTuneJobSpec:
    """A spec that trains a new encoder-decoder."""
    config = MODEL | {"architecture": "t5", "contextLength": 1024}
    return spec_of(**{"model": {"config": config}, "objective": {"seq2seq": {}}} | parts)


def tokenizer_of(texts: Iterable[str]) -> "PreTrainedTokenizerBase":
    """A tokenizer as a new model gets it, with little more than the bytes in it."""
    return _trained(texts, "llama", 270)


def bert_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerBase":
    """One that a new encoder gets."""
    return _trained(texts, "bert", 270)


def t5_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerBase":
    """One that a new encoder-decoder gets."""
    return _trained(texts, "t5", 370)


def _trained(texts: Iterable[str], architecture: str, size: int) -> "PreTrainedTokenizerBase":
    from tunesmith.api.model import NewModel
    from tunesmith.models.tokenizer import train_tokenizer

    config = MODEL | {"architecture": architecture, "tokenizer": {"vocabularySize": size}}
    return train_tokenizer(texts, NewModel.model_validate(config))
