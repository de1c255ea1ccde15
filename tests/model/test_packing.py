"""Packed rows do not see each other: each row's logits are those that it has alone."""

from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    BertConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    PreTrainedModel,
    Qwen2Config,
    RobertaConfig,
)

from tunesmith.api.load import InputError
from tunesmith.models.attention import packed_attention, use_packed_attention
from tunesmith.models.kind import first_position

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
ENCODER = {name: SMALL[name] for name in SMALL if name not in ("num_key_value_heads", "head_dim")}
ENCODERS = {
    "BERT": BertConfig(**ENCODER),
    "RoBERTa, which counts positions from 1": RobertaConfig(**ENCODER, type_vocab_size=1),
    "ModernBERT, which looks 3 tokens around": ModernBertConfig(
        **ENCODER, local_attention=6, global_attn_every_n_layers=2, cls_token_id=1, sep_token_id=2
    ),
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


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_look_to_both_sides_within_a_row(family: str) -> None:
    """As they do alone; another token at a row's end changes all logits of the row, and none of the next."""
    from transformers import AutoModelForMaskedLM

    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForMaskedLM.from_config(ENCODERS[family], attn_implementation="sdpa").eval()
    first = first_position(model)
    rows = [torch.randint(3, 50, (1, length)) for length in LENGTHS]
    positions = torch.cat([torch.arange(first, first + length) for length in LENGTHS])[None]

    def packed(ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=ids, position_ids=positions, row_lengths=list(LENGTHS)).logits
        return logits

    with torch.no_grad():
        alone = torch.cat([model(input_ids=row).logits for row in rows], dim=1)
        use_packed_attention(model)
        together = torch.cat(rows, dim=1)
        logits = packed(together)
        together[0, 4] = 3 + (together[0, 4] - 2) % 47  # the end of the first row is another token
        changed = (packed(together) != logits).any(-1)[0]
    torch.testing.assert_close(logits, alone, rtol=1e-5, atol=1e-5)
    assert changed.tolist() == [True] * 5 + [False] * (sum(LENGTHS) - 5)


def test_a_model_whose_attention_cannot_be_exchanged_says_so() -> None:
    from transformers import AutoModelForMaskedLM, DebertaV2Config

    model = AutoModelForMaskedLM.from_config(DebertaV2Config(**ENCODER))
    with pytest.raises(InputError) as refused:
        use_packed_attention(model)
    message = "spec.training.packing: does not work with this model (deberta-v2); set it to false"
    assert str(refused.value) == message


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


def test_on_a_cpu_attention_of_short_rows_in_bf16_is_computed_in_fp32() -> None:
    """Which is also more exact: the same inputs are not rounded."""
    torch.manual_seed(0)
    query, key = torch.randn(1, 4, 20, 8), torch.randn(1, 2, 20, 8)
    value = torch.randn(1, 2, 20, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = packed_attention(torch.nn.Identity(), query, key, value, None, row_lengths=[20])
    assert mixed.dtype == torch.bfloat16
    exact = scaled_dot_product_attention(query, key, value.float(), is_causal=True, enable_gqa=True)
    assert torch.equal(mixed, exact.transpose(1, 2).bfloat16())
