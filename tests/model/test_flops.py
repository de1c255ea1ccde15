"""The operations that a model needs are those that PyTorch counts while it computes, but for the differences named."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tunesmith.api.method import Method
from tunesmith.data.collate import Batch, Collator
from tunesmith.data.examples import Example, scored
from tunesmith.models.attention import use_packed_attention
from tunesmith.models.kind import start_token
from tunesmith.models.methods import add_adapter
from tunesmith.models.reward import with_reward_head
from tunesmith.training.flops import ModelFlops
from tunesmith.training.objective import token_loss
from tunesmith.training.pair_loss import pair_loss

pytestmark = pytest.mark.model

VOCABULARY = 64
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 4, "max_position_embeddings": 64}


def llama(**changes: Any) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, head_dim=16, **changes))


def batch_of(lengths: list[int], *, packed: bool = False, learned: int = 3) -> Batch:
    """Rows of a decoder, of each of which the last tokens are learned."""
    collator = Collator(pad_token=0, packed=packed)
    rows = [np.arange(1, length + 1, dtype=np.int32) for length in lengths]
    return collator.lay_out([Example(row, row[-learned:], np.arange(len(row)) >= len(row) - learned) for row in rows])


def counted(model: Any, batch: Batch) -> int:
    """What PyTorch counts in a step; with attention as products, since it also counts what a fused one recomputes."""
    model.train()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss: Any = token_loss(model, batch)
        loss.backward()
    return int(counter.get_total_flops())


def test_a_decoder_that_is_trained_in_full() -> None:
    model, batch = llama(), batch_of([10, 10])
    assert ModelFlops.of(model).batch(batch) == counted(model, batch)


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_costs_nothing_but_as_the_head_that_it_is_tied_to(tied: bool) -> None:
    model, batch = llama(tie_word_embeddings=tied), batch_of([10])
    assert ModelFlops.of(model).batch(batch) == counted(model, batch)


def test_packed_rows_attend_to_themselves_alone() -> None:
    model, batch = llama(), batch_of([5, 5, 12, 3], packed=True)
    use_packed_attention(model)
    assert ModelFlops.of(model).batch(batch) == counted(model, batch)


def test_padding_is_not_counted() -> None:
    model = llama()
    assert ModelFlops.of(model).batch(batch_of([12, 4])) == ModelFlops.of(model).batch(batch_of([12, 4], packed=True))


def test_gpt2_whose_weights_lie_the_other_way() -> None:
    model, batch = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4)), batch_of([9, 9])
    assert ModelFlops.of(model).batch(batch) == counted(model, batch)


def test_an_encoder() -> None:
    model = BertForMaskedLM(BertConfig(**SIZES))
    row = np.arange(1, 11, dtype=np.int32)
    example = Example(row, row[2:5], (row > 2) & (row < 6))
    batch = Collator(pad_token=0, packed=False, kind="encoder").lay_out([example, example])
    assert ModelFlops.of(model).batch(batch) == counted(model, batch)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder(family: str) -> None:
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": 32, "decoder_start_token_id": 0}
    model: Any
    if family == "t5":
        model = T5ForConditionalGeneration(T5Config(**sizes, d_kv=16, num_layers=2, num_decoder_layers=3, num_heads=4))
    else:
        layers = {f"{side}_{part}": 4 for side in ("encoder", "decoder") for part in ("layers", "attention_heads")}
        config = BartConfig(**sizes, **layers | {"decoder_layers": 3}, encoder_ffn_dim=48, decoder_ffn_dim=64)
        model = BartForConditionalGeneration(config)
    row = np.arange(1, 11, dtype=np.int32)
    collator = Collator(pad_token=0, packed=False, kind="encoder-decoder", start_token=start_token(model))
    batch = collator._side_by_side([Example(row, row[:4], None)] * 2)
    assert ModelFlops.of(model).batch(batch) == counted(model, batch)


def test_a_reward_model_has_no_vocabulary_to_predict() -> None:
    model = with_reward_head(llama(), pad_token=0)
    row = np.arange(1, 11, dtype=np.int32)
    pairs = Collator(pad_token=0, packed=False).lay_out([scored(row)] * 4)
    batch = replace(pairs, margins=torch.zeros(2))
    model.train()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss: Any = pair_loss(model, batch, margin=0)[0]
        loss.backward()
    head = 6 * 4 * 32  # one vector, which is not counted
    assert ModelFlops.of(model).batch(batch) == counter.get_total_flops() - head


def of_first_inputs(model: nn.Module, tokens: int) -> int:
    """The gradients of what the first layer's attention reads, which nothing before it needs where embeddings are
    frozen; counted all the same."""
    names = [f"layers.0.self_attn.{part}_proj." for part in "qkv"]
    found = [(name, p) for name, p in model.named_parameters() if p.ndim == 2 and any(n in name for n in names)]
    return 2 * tokens * sum(p.numel() for name, p in found if "lora_B" not in name)


@pytest.mark.parametrize("method", [{"lora": {"rank": 4}}, {"adalora": {"initialRank": 4, "targetRank": 2}}])
def test_frozen_weights_cost_no_gradient_of_their_own(method: dict[str, Any]) -> None:
    full = ModelFlops.of(llama()).batch(batch_of([10, 10]))
    model, batch = add_adapter(llama(), Method.model_validate(method), seed=0), batch_of([10, 10])
    flops = ModelFlops.of(model).batch(batch)
    excess = of_first_inputs(model, tokens=20)
    assert flops - counted(model, batch) == pytest.approx(excess, rel=0.005)  # AdaLoRA's lora_E is no matrix
    assert flops < 0.9 * full


def test_a_prefix_is_attended_to_and_a_prompt_is_read_too() -> None:
    batch = batch_of([10, 10])
    prefixed = add_adapter(llama(), Method.model_validate({"prefix": {"tokens": 5}}), seed=0)
    queries = 2 * 20 * 15 * 64  # the first layer's, whose gradient nothing needs either
    flops = ModelFlops.of(prefixed).batch(batch)
    assert flops - counted(prefixed, batch) == of_first_inputs(prefixed, 20) + queries
    prompted = add_adapter(llama(), Method.model_validate({"ptuning": {"tokens": 5}}), seed=0)
    encoder = [p.numel() for n, p in prompted.named_parameters() if "prompt_encoder" in n and "mlp_head" in n]
    matrices = sum(size for size in encoder if size > 128)
    assert counted(prompted, batch) - ModelFlops.of(prompted).batch(batch) == 6 * 5 * matrices


def test_experts_that_are_not_asked_cost_nothing() -> None:
    config = MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=1)
    one = ModelFlops.of(MixtralForCausalLM(config)).batch(batch_of([10]))
    config.num_experts_per_tok = 2
    two = ModelFlops.of(MixtralForCausalLM(config)).batch(batch_of([10]))
    assert two - one == 6 * 10 * 3 * (2 * 48 * 32 + 48 * 32)


def test_a_window_bounds_what_a_token_meets() -> None:
    model = MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2, head_dim=16, sliding_window=4))
    wide = llama()
    fewer = 12 * 64 * 3 * 10 * (10 - 4)
    assert ModelFlops.of(wide).batch(batch_of([10])) - ModelFlops.of(model).batch(batch_of([10])) == fewer
