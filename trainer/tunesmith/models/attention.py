"""Attention over rows that lie end to end in one sequence, with no row seeing another.

Registered with transformers as an attention implementation, so that every model family whose attention goes through its
interface packs without a mask of [tokens, tokens], and without computing what such a mask would throw away.
https://huggingface.co/docs/transformers/attention_interface
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from tunesmith.api.load import InputError, Problem

NAME = "tunesmith_packed"
_SHORT = 16_384
"""Elements of a row's queries in one head."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    row_lengths: list[int] | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention within each row: causal, or to both sides in an encoder.

    Args:
        module: the attention layer.
        query: [1, heads, tokens, head size].
        key: [1, key-value heads, tokens, head size].
        value: [1, key-value heads, tokens, head size].
        attention_mask: unused; rows are told apart by their lengths.
        scaling: factor of the scores.
        dropout: probability.
        row_lengths: tokens of each row, in order; their sum is the number of tokens.
        sliding_window: how far a token sees, itself included: back, and forth in an encoder.
        is_causal: whether a token sees only what is before it; by default as the layer is made.
        others: of other attention variants; those that change the scores are refused.

    Returns:
        [1, tokens, heads, head size], and no weights.
    """
    refuse_unknown(others)
    mixed = _within_rows(
        query,
        key,
        value,
        lengths=row_lengths or [query.shape[2]],
        causal=getattr(module, "is_causal", True) if is_causal is None else is_causal,
        window=sliding_window,
        dropout=dropout,
        scaling=scaling,
    )
    return mixed, None


def faster_in_fp32(device: torch.device, length: int, head_size: int) -> bool:
    """Whether attention within a row is faster in fp32 than in bf16.

    On CPUs the kernels of bf16 are made for AMX, and arrange short rows for it longer than they then compute
    (docs/benchmarks.md, "Attention on CPUs").
    """
    if device.type != "cpu":
        return False
    return length * head_size <= _SHORT or not torch.cpu.get_capabilities().get("amx_bf16", False)


def _within_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    causal: bool,
    window: int | None,
    dropout: float,
    scaling: float | None,
) -> Tensor:
    """Attention within rows of these lengths; [1, tokens, heads, head size]."""
    runs = runs_of_equal(lengths)
    # split, not slices: the backward of a slice fills a tensor as large as the whole sequence for each of them
    sizes = [length * count for length, count in runs]
    outputs = []
    for (length, count), *parts in zip(runs, *(torch.split(t, sizes, dim=2) for t in (query, key, value)), strict=True):
        band = _band(length, window, causal, query.device) if window is not None and length > window else None
        q, k, v = (_as_batch(part, count, length) for part in parts)
        exact = faster_in_fp32(query.device, length, query.shape[-1])
        with torch.autocast("cpu", enabled=False) if exact else nullcontext():
            mixed = scaled_dot_product_attention(
                q.float() if exact else q,
                k.float() if exact else k,
                v.float() if exact else v,
                attn_mask=band,
                dropout_p=dropout,
                is_causal=causal and band is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            ).to(v.dtype)
        outputs.append(mixed.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).unsqueeze(0)


def runs_of_equal(lengths: list[int]) -> list[tuple[int, int]]:
    """Neighbouring rows of the same length, which are computed at once: (length, how many)."""
    return [(length, len(list(run))) for length, run in groupby(lengths)]


def _as_batch(part: Tensor, count: int, length: int) -> Tensor:
    """`count` rows of equal length as a batch: [1, heads, count * length, size] to [count, heads, length, size]."""
    return part if count == 1 else part[0].reshape(-1, count, length, part.shape[-1]).transpose(0, 1)


def refuse_unknown(others: dict[str, Any]) -> None:
    """Refuses arguments that change the scores in a way that packed attention does not know."""
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise InputError(
                Problem(f"does not work with this model's attention ({name}); set it to false", "spec.training.packing")
            )


def _band(length: int, window: int, causal: bool, device: torch.device) -> Tensor:
    """Which position sees which: less than `window` back, and as far forth unless causal; bool [length, length]."""
    positions = torch.arange(length, device=device)
    distance = positions[:, None] - positions[None, :]
    return (distance >= 0) & (distance < window) if causal else distance.abs() < window


def use_packed_attention(model: PreTrainedModel) -> None:
    """Makes a model compute attention within rows.

    Raises:
        InputError: its attention cannot be exchanged.
    """
    AttentionInterface.register(NAME, packed_attention)
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        message = f"does not work with this model ({model.config.model_type}); set it to false"
        raise InputError(Problem(message, "spec.training.packing"))


@contextmanager
def usual_attention(model: PreTrainedModel) -> Iterator[None]:
    """A model as it was before `use_packed_attention`: for rows side by side, and with a cache."""
    packed = model.config._attn_implementation == NAME
    if packed:
        model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if packed:
            model.set_attn_implementation(NAME)
