"""Batches whose sizes are rounded up give the losses and gradients of those that are as they are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tunesmith.api.objective import ModelKind
from tunesmith.data.collate import Batch, Collator
from tunesmith.data.examples import Example
from tunesmith.models.attention import use_packed_attention
from tunesmith.training.objective import next_token_logits, token_loss, token_losses

pytestmark = pytest.mark.model

LENGTHS = (5, 1, 9, 17, 7)
SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "max_position_embeddings": 20}
MODELS: dict[str, Any] = {
    "Llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "Mistral, which looks back 6 tokens": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=6)
    ),
    "BERT": lambda: BertForMaskedLM(BertConfig(**SIZES)),
    "T5": lambda: T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=32, d_kv=8, num_layers=2, num_heads=4)),
}
KINDS: dict[str, ModelKind] = {"BERT": "encoder", "T5": "encoder-decoder"}
PACKED = [(name, packed) for name in MODELS for packed in (True, False) if not packed or name != "T5"]


def batches(kind: ModelKind, packed: bool) -> tuple[Batch, Batch]:
    """The same rows as they are, and rounded up."""
    generator = np.random.default_rng(0)
    examples = []
    for length in LENGTHS:
        row, keep = generator.integers(1, 50, length).astype(np.int32), np.arange(length) > length // 2
        examples.append(Example(row, row[keep] if length > 1 else row[:0], None if kind == "encoder-decoder" else keep))
    plain = Collator(0, packed, kind=kind)
    if kind == "encoder-decoder":
        return plain._side_by_side(examples), replace(plain, longest=20)._side_by_side(examples)
    return plain.lay_out(examples), replace(plain, longest=20).lay_out(examples)


@pytest.mark.parametrize(("name", "packed"), PACKED)
def test_losses_and_gradients_are_the_same(name: str, packed: bool) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    if packed:
        use_packed_attention(model)
    plain, rounded = batches(KINDS.get(name, "decoder"), packed)
    assert rounded.input_ids.numel() > plain.input_ids.numel()
    assert rounded.labels is not None
    gradients = []
    for batch in (plain, rounded):
        model.zero_grad()
        loss: Any = token_loss(model, batch)
        loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(token_losses(model, rounded), token_losses(model, plain), rtol=1e-5, atol=1e-5)
        if plain.kind == "decoder":
            torch.testing.assert_close(next_token_logits(model, rounded), next_token_logits(model, plain))
