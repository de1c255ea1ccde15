"""Packed rows do not see each other: each row's logits are those that it has alone."""

from typing import Any

import pytest
import torch
from transformers import GemmaConfig, LlamaConfig, MistralConfig, PreTrainedModel, Qwen2Config

from tunesmith.models.attention import use_packed_attention

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
FAMILIES = {
    "Llama": LlamaConfig(**SMALL),
    "Mistral, which looks back 6 tokens": MistralConfig(**SMALL, sliding_window=6),
    "Qwen2": Qwen2Config(**SMALL),
    "Gemma": GemmaConfig(**SMALL),
}
LENGTHS = (5, 1, 9, 9, 17, 7, 7)
"""Some equal ones beside each other, which are computed at once."""


def model_of(config: Any) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_packed_rows_are_those_of_each_row_alone(family: str) -> None:
    model = model_of(FAMILIES[family])
    rows = [torch.randint(1, 50, (1, length)) for length in LENGTHS]
    with torch.no_grad():
        alone = torch.cat([model(input_ids=row, use_cache=False).logits for row in rows], dim=1)
        use_packed_attention(model)
        packed = model(
            input_ids=torch.cat(rows, dim=1),
            position_ids=torch.cat([torch.arange(length) for length in LENGTHS])[None],
            row_lengths=list(LENGTHS),
            use_cache=False,
        ).logits
        leaking = model(input_ids=torch.cat(rows, dim=1), use_cache=False).logits
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(leaking, alone, atol=1e-2), "one row of all would give other logits"


def test_gradients_stay_within_a_row() -> None:
    model = model_of(FAMILIES["Llama"])
    use_packed_attention(model)
    embedded = torch.randn(1, sum(LENGTHS), 32, requires_grad=True)
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    logits = model(inputs_embeds=embedded, position_ids=positions, row_lengths=list(LENGTHS), use_cache=False).logits
    logits[0, 6:15].square().sum().backward()  # the third row
    assert embedded.grad is not None
    touched = embedded.grad[0].abs().sum(-1) > 0
    assert touched.tolist() == [False] * 6 + [True] * 9 + [False] * 40
