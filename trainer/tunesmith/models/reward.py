"""Reward models: a language model's trunk with a head of one score, transformers' sequence classifier with one label.

The score of a text is read at its last token, by position. transformers would look for the padding token instead, and
reads the token before the end where that is the end-of-sequence token too.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.load import InputError, Problem
from tunesmith.data.collate import Batch, texts_to_score
from tunesmith.models.adapters import WEIGHTS, attach, merged, read_config
from tunesmith.models.kind import first_position
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer

PLACE = "spec.model.source"
CENTRING_FILE = "reward.json"
_QUANTIZED = ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit", "quantization_method", "hf_quantizer")
"""What transformers and peft look for in a quantized model."""


def with_reward_head(model: PreTrainedModel, pad_token: int) -> PreTrainedModel:
    """A causal language model's trunk, which is shared, with a head of one score, in fp32, that starts at zero.

    Args:
        model: the language model, quantized or not.
        pad_token: for others, who let transformers look for it.

    Raises:
        InputError: transformers has no sequence classifier of this family.
    """
    config: Any = model.config
    config.num_labels, config.pad_token_id = 1, pad_token
    try:
        with torch.device("meta"):
            scorer: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, dtype=model.dtype)
    except (ValueError, KeyError):
        message = f"is of the family {config.model_type}, of which transformers has no sequence classifier"
        raise InputError(Problem(f"{message}; choose another", PLACE)) from None
    head = _head(scorer)
    head.weight = nn.Parameter(torch.zeros(head.weight.shape, dtype=torch.float32, device=model.device))
    setattr(scorer, scorer.base_model_prefix, model.base_model)
    for name in _QUANTIZED:
        if hasattr(model, name):
            setattr(scorer, name, getattr(model, name))
    return _scoring(scorer)


def scores_at(model: nn.Module, batch: Batch) -> Tensor:
    """The scores at the tokens in `batch.keep`.

    Args:
        model: a reward model, wrapped or not.
        batch: packed, or padded on either side; on the left with `real`.

    Returns:
        fp32 [kept], in order; without gain and bias.
    """
    layout: dict[str, Any] = {}
    if batch.row_lengths is not None:
        layout["row_lengths"] = batch.row_lengths
    if batch.real is not None:
        layout["attention_mask"] = batch.real
    scores: Tensor = model(input_ids=batch.input_ids, position_ids=batch.position_ids, keep=batch.keep, **layout)
    return scores.float()


@torch.inference_mode()
def score_texts(model: PreTrainedModel, texts: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The scores of whole texts, each at its last token, in one batch.

    Args:
        model: a reward model in evaluation mode, on its device.
        texts: tokens of each, prompt and answer.
        tokenizer: pads.

    Returns:
        fp32 [texts], on the CPU; without gain and bias.
    """
    batch = texts_to_score(texts, int(tokenizer.pad_token_id), first_position(model))
    return scores_at(model, batch.to(model.device)).cpu()


def is_reward_model(model: nn.Module) -> bool:
    """Whether a model that is not wrapped has a head of one score."""
    return isinstance(getattr(model, "score", None), nn.Module)


@dataclass(frozen=True)
class Centring:
    """What makes the starting model's answers score 0 on average, with variance 1: score x gain + bias."""

    gain: float = 1.0
    bias: float = 0.0
    answers: int = 0
    """How many answers it was measured on."""
    mean: float = 0.0
    """Of their scores before."""
    std: float = 1.0

    def of(self, scores: Any) -> Any:
        """Centred scores: a tensor, an array or a number, as it is given."""
        return scores * self.gain + self.bias

    def write(self, folder: Path) -> None:
        """Leaves it beside a model or an adapter."""
        partial = folder / f".partial-{CENTRING_FILE}"
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / CENTRING_FILE)

    @classmethod
    def read(cls, folder: Path) -> "Centring":
        """What stands beside a model; where nothing does, scores are taken as they are.

        Raises:
            InputError: it is damaged.
        """
        file = folder / CENTRING_FILE
        if not file.exists():
            return cls()
        try:
            found = cls(**json.loads(file.read_text(encoding="utf-8")))
            if math.isfinite(found.gain) and found.gain > 0 and math.isfinite(found.bias):
                return found
        except (OSError, ValueError, TypeError):
            pass
        raise InputError(
            Problem("should hold a gain above 0 and a bias; delete it to use scores as they are", str(file))
        )


@dataclass(frozen=True)
class RewardModel:
    """A trained reward model, in evaluation mode."""

    model: PreTrainedModel
    centring: Centring

    def scores(self, batch: Batch) -> Tensor:
        """Centred scores at the tokens in `batch.keep`; fp32 [kept]."""
        centred: Tensor = self.centring.of(scores_at(self.model, batch))
        return centred


def load_reward_model(location: ModelLocation, dtype: torch.dtype | str = "auto", place: str = PLACE) -> RewardModel:
    """A reward model from its own folder, or from that of its adapter, which is merged into the base.

    Args:
        location: where it is; the base of an adapter may be an adapter's folder too.
        dtype: of the trunk's weights; "auto" is that of the files. The head is in fp32.
        place: the field of the spec that names it, for messages.

    Raises:
        InputError: it cannot be loaded, or is no reward model.
    """
    base = location.adapter_base
    if base is None:
        model = _load_whole(location, dtype, place)
    else:
        _refuse_other_adapter(Path(location.name), place)
        start = with_reward_head(load_model(base, dtype), int(load_tokenizer(location).pad_token_id))
        model = _scoring(merged(attach(start, base.name, Path(location.name))))
    _head(model).float()
    model.eval().requires_grad_(False)
    return RewardModel(model, Centring.read(Path(location.name)))


@dataclass(frozen=True)
class RewardAdapter:
    """A reward model that is an adapter: what goes onto a trunk that is there already."""

    config: Any
    """peft's."""
    tensors: dict[str, Tensor]
    """The adapter's weights as peft names them (base_model.model.*.lora_A.weight), without the head."""
    head: Tensor
    """[1, hidden size]."""
    centring: Centring


def read_reward_adapter(folder: Path, place: str = PLACE) -> RewardAdapter:
    """Reads the folder of a reward model's adapter.

    Raises:
        InputError: it is damaged, or no reward model's.
    """
    config = _refuse_other_adapter(folder, place)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise InputError(Problem(f"is damaged: {error}", file=str(folder / WEIGHTS))) from None
    heads = [name for name in tensors if name.endswith("score.weight")]
    if len(heads) != 1:
        raise InputError(Problem("holds no reward model: the head is missing", place, file=str(folder)))
    return RewardAdapter(config, tensors, tensors.pop(heads[0]), Centring.read(folder))


def _load_whole(location: ModelLocation, dtype: torch.dtype | str, place: str) -> PreTrainedModel:
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            location.name,
            revision=location.revision,
            dtype=dtype,
            num_labels=1,
            ignore_mismatched_sizes=False,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(Problem(f"{location.name} cannot be loaded as a reward model: {reason[0]}", place)) from None
    missing = sorted(report["missing_keys"])
    if missing:
        message = f"{location.name} is no reward model: its files lack {missing[0]}; train one with objective.reward"
        raise InputError(Problem(message, place))
    return _scoring(model)


def _refuse_other_adapter(folder: Path, place: str) -> Any:
    """The adapter's settings, where it is a reward model's."""
    config = read_config(folder)
    if config.task_type != "SEQ_CLS" or config.is_prompt_learning:
        message = f"{folder} is an adapter, but no reward model; train one with objective.reward"
        raise InputError(Problem(message, place))
    return config


def _head(model: PreTrainedModel) -> nn.Linear:
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Linear):
        message = f"is of the family {model.config.model_type}, whose classifier has no head of one layer"
        raise InputError(Problem(f"{message}; choose another", PLACE))
    return head


def _scoring(model: PreTrainedModel) -> PreTrainedModel:
    """Has a sequence classifier return scores at positions; names and files stay those of transformers.

    Its forward, rather than a function beside it, so that whatever wraps or shards the model sees one forward pass.
    """
    model.forward = MethodType(_scores, model)
    return model


def _scores(
    self: Any,
    input_ids: Tensor,
    position_ids: Tensor,
    keep: Tensor,
    attention_mask: Tensor | None = None,
    row_lengths: list[int] | None = None,
    **unused: Any,
) -> Tensor:
    """Scores of the tokens in `keep` (bool, the shape of input_ids); [kept]. peft adds arguments that are None."""
    layout: dict[str, Any] = {} if row_lengths is None else {"row_lengths": row_lengths}
    trunk = getattr(self, self.base_model_prefix)
    hidden = trunk(
        input_ids=input_ids, position_ids=position_ids, attention_mask=attention_mask, use_cache=False, **layout
    ).last_hidden_state
    # in half precision neighbouring scores would be the same
    with torch.autocast(hidden.device.type, enabled=False):
        scores: Tensor = self.score(hidden[keep].to(self.score.weight.dtype))
    return scores.squeeze(-1)
