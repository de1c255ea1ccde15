"""BERTScore by bert-score: each word piece finds the most similar one on the other side."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from bert_score.utils import bert_cos_score_idf
from torch import nn

from tunesmith.api.evaluation import Encoder
from tunesmith.api.load import InputError, Problem
from tunesmith.evaluation.batches import in_batches
from tunesmith.evaluation.metrics.base import MeanOfRows
from tunesmith.models.embed import load_encoder_model
from tunesmith.models.kind import first_position
from tunesmith.models.load import ModelLocation, load_tokenizer, locate_source
from tunesmith.sources import Resolver

PLACE = "spec.evaluation.bertScore"
_LONGEST = 100_000
"""Tokens; a tokenizer that knows no limit gives a number with thirty digits."""


class BertScore(MeanOfRows):
    """The mean F1 of the similarities of word pieces, without weights and without a baseline. An answer or a reference
    without text scores 0; what is longer than the encoder reads is cut.

    Args:
        model: the encoder, as `load_encoder` gives it.
        tokenizer: the encoder's.
        size: rows at once.
        progress: is told how many rows are done.
    """

    is_share = False  # a cosine can be below 0

    citation = "Zhang et al. 2020, arXiv:1904.09675"

    def __init__(
        self, model: nn.Module, tokenizer: Any, size: int = 64, progress: Callable[[int], None] = lambda done: None
    ) -> None:
        super().__init__()
        self._model, self._tokenizer, self._size, self._progress = model, tokenizer, size, progress
        self._weights: defaultdict[int, float] = defaultdict(lambda: 1.0)
        self._weights |= {tokenizer.sep_token_id: 0.0, tokenizer.cls_token_id: 0.0}  # as bert-score has it

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        found = [0.0] * len(pairs)
        done = 0

        def work(some: list[int]) -> None:
            nonlocal done
            given, expected = ([pairs[row][side] for row in some] for side in (0, 1))
            scores = bert_cos_score_idf(
                self._model, expected, given, self._tokenizer, self._weights, batch_size=len(some), device=self._device
            )
            for row, score in zip(some, scores[:, 2].tolist(), strict=True):
                found[row] = score
            done += len(some)
            self._progress(done)

        full = [row for row, pair in enumerate(pairs) if all(text.strip() for text in pair)]
        in_batches(sorted(full, key=lambda row: -len(pairs[row][0]) - len(pairs[row][1])), self._size, work)
        return found

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device


class _Layer(nn.Module):
    """One layer of an encoder, as bert-score asks for it."""

    def __init__(self, encoder: nn.Module, layer: int) -> None:
        super().__init__()
        self.encoder, self.layer = encoder, layer

    def forward(self, tokens: Any, attention_mask: Any, output_hidden_states: bool = False) -> tuple[Any]:
        states = self.encoder(tokens, attention_mask=attention_mask, output_hidden_states=True).hidden_states
        return (states[self.layer],)


def load_encoder(encoder: Encoder, resolver: Resolver, place: str = PLACE) -> tuple[nn.Module, Any]:
    """An encoder in evaluation mode on its device, and its tokenizer; code that lies beside weights is not run.

    Args:
        encoder: which, and the layer that is read.
        resolver: finds it.
        place: the field of the spec, for messages.

    Raises:
        InputError: it cannot be loaded, has fewer layers, or its tokenizer puts no special tokens around texts.
    """
    location = locate_source(encoder.source, resolver, f"{place}.source")
    tokenizer = _tokenizer(location, f"{place}.source")
    model = load_encoder_model(location, torch.float32, f"{place}.source")
    layers = int(model.config.get_text_config().num_hidden_layers)
    if encoder.layer is not None and encoder.layer > layers:
        raise InputError(Problem(f"is {encoder.layer}, and the encoder has {layers} layers", f"{place}.layer"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layered = _Layer(model, encoder.layer if encoder.layer is not None else -1).eval().to(device)
    longest = getattr(model.config, "max_position_embeddings", None) or _LONGEST
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest - first_position(model))
    return layered, tokenizer


def _tokenizer(location: ModelLocation, place: str) -> Any:
    tokenizer = load_tokenizer(location, "encoder")
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None or tokenizer.pad_token_id is None:
        message = f"{location.name} is no encoder: its tokenizer puts no special tokens around a text; choose another"
        raise InputError(Problem(message, place))
    return tokenizer
