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


def tokenizer_of(texts: Iterable[str]) -> "PreTrainedTokenizerBase":
    """A tokenizer as a new model gets it, with little more than the bytes in it."""
    from tunesmith.api.model import NewModel
    from tunesmith.models.tokenizer import train_tokenizer

    return train_tokenizer(texts, NewModel.model_validate(MODEL | {"tokenizer": {"vocabularySize": 270}}))
