"""Texts as vectors, by any encoder in the format of transformers."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.evaluation import Encoder
from tunesmith.api.load import InputError, Problem
from tunesmith.models.kind import first_position
from tunesmith.models.load import ModelLocation, locate_source
from tunesmith.sources import Resolver

_BATCH = 32


def embed_texts(
    texts: Sequence[str], encoder: Encoder, resolver: Resolver, place: str, progress: Callable[[int, int], None]
) -> NDArray[np.float64]:
    """The mean of an encoder's hidden states over the tokens of each text, at length 1 (Reimers & Gurevych 2019,
    arXiv:1908.10084). A text that is longer than the encoder reads loses its end.

    Args:
        texts: any.
        encoder: which one, and which of its layers.
        resolver: finds it.
        place: its field, for messages.
        progress: is told how many texts are done, and how many there are.

    Returns:
        [texts, width].

    Raises:
        InputError: it cannot be loaded, has no such layer, or gives what is no number.
    """
    model, tokenizer = _load(encoder, resolver, place)
    layers = int(model.config.get_text_config().num_hidden_layers)
    if encoder.layer is not None and encoder.layer > layers:
        raise InputError(Problem(f"is {encoder.layer}, but the encoder has {layers} layers", f"{place}.layer"))
    ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=_longest(model, tokenizer))["input_ids"]
    found = np.zeros((len(texts), int(model.config.get_text_config().hidden_size)))
    order = sorted(range(len(texts)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        found[rows] = _means(model, [ids[row] for row in rows], int(tokenizer.pad_token_id), encoder.layer)
        progress(start + len(rows), len(texts))
    if not np.isfinite(found).all():
        raise InputError(Problem("gives vectors that are no numbers", f"{place}.source"))
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = found / np.where(lengths > 0, lengths, 1)
    return scaled


@torch.inference_mode()
def _means(model: PreTrainedModel, ids: Sequence[Sequence[int]], pad: int, layer: int | None) -> NDArray[np.float64]:
    width = max(1, *map(len, ids))
    tokens = torch.tensor([[*row, *[pad] * (width - len(row))] for row in ids], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=model.device)
    output = model(input_ids=tokens, attention_mask=mask, output_hidden_states=layer is not None)
    hidden = output.last_hidden_state if layer is None else output.hidden_states[layer]
    sums = (hidden.double() * mask[..., None]).sum(dim=1)
    means: NDArray[np.float64] = (sums / mask.sum(dim=1, keepdim=True).clamp(min=1)).cpu().numpy()
    return means


def _load(encoder: Encoder, resolver: Resolver, place: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    place = f"{place}.source"
    location = locate_source(encoder.source, resolver, place)
    try:
        tokenizer = AutoTokenizer.from_pretrained(location.name, revision=location.revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(Problem(f"its tokenizer cannot be loaded: {_first_line(error)}", place)) from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    model = load_encoder_model(location, "auto", place)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def load_encoder_model(location: ModelLocation, dtype: torch.dtype | str, place: str) -> PreTrainedModel:
    """An encoder without a head, or the encoder of an encoder-decoder; code that lies beside weights is not run.

    Args:
        location: where it is.
        dtype: type of the weights, or "auto" for that of the files.
        place: the field that names it, for messages.

    Raises:
        InputError: it cannot be loaded.
    """
    try:
        model: PreTrainedModel = AutoModel.from_pretrained(
            location.name, revision=location.revision, dtype=dtype, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        message = f"{location.name} cannot be loaded as an encoder: {_first_line(error)}"
        raise InputError(Problem(message, place)) from None
    return model.get_encoder() if model.config.is_encoder_decoder else model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest text in tokens: what both the tokenizer and the model's positions allow."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limit = int(min(tokenizer.model_max_length, 8192))
    return limit if positions is None else min(limit, positions - first_position(model))
