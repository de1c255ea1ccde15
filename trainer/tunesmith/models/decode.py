"""Rows in the middle of their answers, in one batch with a key-value cache: rows leave it and others join.

Prompts are padded on the left, so that every row's next token comes at the same place; a mask hides the padding, and
positions are counted from the first real token.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from tunesmith.models.kind import start_token
from tunesmith.models.prompts import bare_model, embedded_prompt, reads_embeddings, virtual_tokens

_ROOM = 64
"""Places that a cache grows by."""


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]  # which is Any here
    """Keys and values with room ahead, so that a token is put in its place; transformers' own copies all that is there
    for each token."""

    keys: Tensor
    values: Tensor

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self._stores: list[Tensor | None] = [None, None]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.values = self._append(0, self.keys, key_states), self._append(1, self.values, value_states)
        return self.keys, self.values

    def _append(self, which: int, held: Tensor, new: Tensor) -> Tensor:
        start = held.shape[2] if held.numel() else 0
        end, store = start + new.shape[2], self._stores[which]
        if store is None or store.shape[2] < end:
            store = self._stores[which] = new.new_empty(*new.shape[:2], end + _ROOM, new.shape[3])
            if start:
                store[:, :, :start] = held
        store[:, :, start:end] = new
        return store[:, :, :end]

    def batch_select_indices(self, indices: Tensor) -> None:
        self.shape_anew([(self, indices, 0)], self.keys.shape[2])

    def shape_anew(self, parts: Sequence[tuple["_RoomyLayer", Tensor | None, int]], width: int) -> None:
        """Makes this layer of rows of some layers, each without its first places, and with its end where the others
        have theirs.

        Args:
            parts: the layers, which of their rows (None: all), and how many places are left out.
            width: places of the longest.
        """
        for which in (0, 1):
            taken = [(layer.values if which else layer.keys)[:, :, first:] for layer, _, first in parts]
            chosen = [held if rows is None else held[rows] for held, (_, rows, _) in zip(taken, parts, strict=True)]
            like = chosen[0]
            # what padding holds is hidden, but must be numbers
            store = like.new_zeros(sum(map(len, chosen)), like.shape[1], width + _ROOM, like.shape[3])
            top = 0
            for held in chosen:
                store[top : top + len(held), :, width - held.shape[2] : width] = held
                top += len(held)
            self._stores[which] = store
            if which:
                self.values = store[:, :, :width]
            else:
                self.keys = store[:, :, :width]


class Decoding:
    """The rows of a decoder that are being continued.

    Args:
        model: a decoder in evaluation mode, on its device.
        pad: the token that pads.
    """

    def __init__(self, model: Any, pad: int) -> None:
        self._model, self._pad = model, pad
        self._bare: Any = bare_model(model)
        self._context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        plain = DynamicCache(config=self._bare.config)
        self.joins = all(type(layer) is DynamicLayer for layer in plain.layers)
        """Whether rows may be added to others: not where a cache keeps but a window, or a state."""
        self._cache: Any = None
        self._mask = torch.zeros(0, 0, dtype=torch.long)
        self._positions = torch.zeros(0, dtype=torch.long)
        """Of each row's next token."""

    def __len__(self) -> int:
        return len(self._mask)

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads the prompts of further rows, which come after those that are there.

        Args:
            prompts: tokens of each; none is empty.

        Returns:
            Logits of their first tokens; [prompts, vocabulary].
        """
        device, width = self._bare.device, max(map(len, prompts))
        ids = torch.tensor([[self._pad] * (width - len(p)) + list(p) for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        cache, positions = self._new_cache(), (mask.cumsum(dim=1) - 1).clamp(min=0)
        inputs: dict[str, Tensor] = {"input_ids": ids}
        if reads_embeddings(self._model):
            embeddings, mask = embedded_prompt(self._model, ids, mask)
            inputs, positions = {"inputs_embeds": embeddings}, (mask.cumsum(dim=1) - 1).clamp(min=0)
        elif taken := virtual_tokens(self._model):
            _copy(self._model.get_prompt(batch_size=len(prompts)), cache)
            mask, positions = torch.cat([mask.new_ones(len(mask), taken), mask], dim=1), positions + taken
        logits = self._call(inputs, mask, positions, cache)
        following = positions[:, -1] + 1
        if len(self):
            self._join(cache, mask, following)
        else:
            self._cache, self._mask, self._positions = cache, mask, following
        return logits

    def advance(self, tokens: Tensor) -> Tensor:
        """Reads a token of each row.

        Args:
            tokens: [rows].

        Returns:
            Logits of the next ones; [rows, vocabulary].
        """
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        positions = self._positions
        if self._context is not None:  # rows that are over go on until they leave, and may have no place any more
            positions = positions.clamp(max=self._context - 1)
        logits = self._call({"input_ids": tokens[:, None]}, self._mask, positions[:, None], self._cache)
        self._positions = self._positions + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        """Lets all other rows go.

        Args:
            rows: places of those that stay; [kept].
        """
        if not self.joins:
            self._cache.reorder_cache(rows)
            self._mask, self._positions = self._mask[rows], self._positions[rows]
            return
        mask = self._mask[rows]
        first = int(mask.argmax(dim=1).min())  # nobody's any more
        for layer in self._cache.layers:
            layer.shape_anew([(layer, rows, first)], mask.shape[1] - first)
        self._mask, self._positions = mask[:, first:], self._positions[rows]

    def _new_cache(self) -> Any:
        return Cache(layer_class_to_replicate=_RoomyLayer) if self.joins else DynamicCache(config=self._bare.config)

    def _call(self, inputs: dict[str, Tensor], mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        output = self._bare(
            **inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _join(self, cache: Any, mask: Tensor, positions: Tensor) -> None:
        width = max(mask.shape[1], self._mask.shape[1])
        for mine, new in zip(self._cache.layers, cache.layers, strict=True):
            mine.shape_anew([(mine, None, 0), (new, None, 0)], width)
        padded = [torch.cat([m.new_zeros(len(m), width - m.shape[1]), m], dim=1) for m in (self._mask, mask)]
        self._mask = torch.cat(padded)
        self._positions = torch.cat([self._positions, positions])


def _copy(prefix: Any, cache: Any) -> None:
    """Puts a trained prefix into a new cache."""
    for index, layer in enumerate(prefix.layers):
        cache.update(layer.keys, layer.values, index)


class EncodedDecoding:
    """The rows of an encoder-decoder whose answers are being written; all start at the same time.

    Args:
        model: an encoder-decoder in evaluation mode, on its device.
        pad: the token that pads.
    """

    joins = False

    def __init__(self, model: Any, pad: int) -> None:
        self._model, self._pad = model, pad
        self._mask = torch.zeros(0, 0, dtype=torch.long)
        self._cache: Any = None
        self._encoded: Any = None

    def __len__(self) -> int:
        return len(self._mask)

    def add(self, sources: Sequence[Sequence[int]]) -> Tensor:
        """Reads sources; as `Decoding.add`."""
        device, width = self._model.device, max(map(len, sources))
        ids = torch.tensor([list(s) + [self._pad] * (width - len(s)) for s in sources], device=device)
        self._mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sources], device=device)
        self._encoded = self._model.get_encoder()(input_ids=ids, attention_mask=self._mask)
        own, crossed = (Cache(layer_class_to_replicate=_RoomyLayer) for _ in range(2))
        self._cache = EncoderDecoderCache(own, crossed)
        return self.advance(torch.full((len(sources),), start_token(self._model), device=device))

    def advance(self, tokens: Tensor) -> Tensor:
        """As `Decoding.advance`."""
        output = self._model(
            encoder_outputs=self._encoded,
            attention_mask=self._mask,
            decoder_input_ids=tokens[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: Tensor) -> None:
        """As `Decoding.keep`."""
        for part in (self._cache.self_attention_cache, self._cache.cross_attention_cache):
            part.batch_select_indices(rows)
        self._encoded.last_hidden_state = self._encoded.last_hidden_state[rows]
        self._mask = self._mask[rows]
