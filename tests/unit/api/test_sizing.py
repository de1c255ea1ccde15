"""The arithmetic of `tunesmith estimate`; tests/benchmarks/estimate.py compares it with what is measured."""

from dataclasses import replace
from typing import Any

import pytest

from tunesmith.api.architecture import Architecture
from tunesmith.api.fitting import change_that_fits
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.model import NewModel
from tunesmith.api.sizing import GIB, estimate, trained_weights

LLAMA_8B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "model_type": "llama",
    "tie_word_embeddings": False,
}
GPT2 = {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024, "model_type": "gpt2"}


def spec(training: dict[str, Any] | None = None, **parts: Any) -> FineTuneJobSpec:
    return FineTuneJobSpec.model_validate(
        {
            "model": {"source": "hf://acme/llama"},
            "dataset": {"train": {"source": "hf://acme/text"}},
            "objective": {"causalLM": {}},
            "method": {"full": {}},
            "training": training or {},
        }
        | parts
    )


def llama() -> Architecture:
    model = Architecture.of_config(LLAMA_8B)
    assert model is not None
    return model


def test_the_weights_of_known_models() -> None:
    assert llama().weights == pytest.approx(8_030_261_248, rel=1e-4)
    gpt2 = Architecture.of_config(GPT2)
    assert gpt2 is not None
    assert gpt2.weights == pytest.approx(124_439_808, rel=2e-3)


def test_a_configuration_with_other_names_is_not_guessed_at() -> None:
    assert Architecture.of_config({"model_type": "mamba", "d_model": 64}) is None


def test_a_4096_wide_layer_at_rank_8_has_65536_weights() -> None:
    square = Architecture(
        hidden=4096, layers=1, heads=32, key_value_heads=32, head_size=128, intermediate=1, vocabulary=1
    )
    lora = spec(method={"lora": {"rank": 8, "targetModules": ".*q_proj"}})
    assert trained_weights(lora, square) == (65536, 65536)


def test_full_training_takes_16_bytes_a_weight() -> None:
    memory = estimate(spec(), llama(), on_gpu=True)
    assert (memory.weights + memory.gradients + memory.optimizer) / llama().weights == pytest.approx(16)


@pytest.mark.parametrize(
    ("scaling", "bytes_a_weight"),
    [
        ({"workers": 8}, 16),
        ({"workers": 8, "fsdp": {}}, 2),
        ({"workers": 8, "tensorParallel": 8}, 2),
        ({"workers": 16, "tensorParallel": 8, "fsdp": {}}, 1),
    ],
)
def test_what_is_sharded_is_divided(scaling: dict[str, Any], bytes_a_weight: float) -> None:
    memory = estimate(spec(scaling=scaling), llama(), on_gpu=True)
    largest = 4 * 128256 * 4096 if "fsdp" in scaling else 0  # is put together while it is used
    state = memory.weights + memory.gradients + memory.optimizer - largest
    assert state / llama().weights == pytest.approx(bytes_a_weight, rel=1e-6)


@pytest.mark.parametrize(
    ("sharding", "bytes_a_weight"),
    [({"deepspeed": {"zeroStage": 1}}, 16), ({"deepspeed": {"zeroStage": 3}}, 18), ({"fsdp": {}}, 16)],
    ids=["ZeRO-1", "ZeRO-3, bf16 weights too", "FSDP2"],
)
def test_what_is_offloaded_is_in_the_cpu_s_memory(sharding: dict[str, Any], bytes_a_weight: int) -> None:
    (name, settings) = next(iter(sharding.items()))
    kept, offloaded = (spec(scaling={"workers": 8, name: settings | {"offload": offload}}) for offload in (False, True))
    on_gpu = [estimate(each, llama(), on_gpu=True).total for each in (kept, offloaded)]
    assert on_gpu[0] - on_gpu[1] == pytest.approx(bytes_a_weight / 8 * llama().weights, rel=1e-6)
    assert estimate(kept, llama()) == estimate(offloaded, llama()), "without a GPU that is where all of it is"


def test_tensor_parallelism_leaves_norms_and_an_embedding_that_is_the_head_whole() -> None:
    tied = replace(llama(), tied=True)
    whole, halved = (estimate(spec(scaling={"workers": n, "tensorParallel": n}), tied, on_gpu=True) for n in (1, 2))
    assert halved.weights == pytest.approx((whole.weights + 4 * tied.embedding_weights) / 2)
    assert whole.activations / 2 < halved.activations < 0.8 * whole.activations


def test_each_stage_of_zero_takes_less_than_the_one_before() -> None:
    def state(stage: int) -> int:
        scaling = {"workers": 8, "deepspeed": {"zeroStage": stage}}
        memory = estimate(spec(scaling=scaling), llama(), on_gpu=True)
        return memory.weights + memory.gradients + memory.optimizer

    assert state(3) < state(2) <= state(1)


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [(None, 16), ({"type": "int8"}, 8), ({"type": "nf4"}, 4.127), ({"type": "nf4", "doubleQuantization": False}, 4.5)],
)
def test_frozen_weights_are_counted_at_their_width(quantization: dict[str, Any] | None, bits: float) -> None:
    model = {"source": "hf://acme/llama"} | ({"quantization": quantization} if quantization else {})
    memory = estimate(spec(model=model, method={"lora": {}}), llama(), on_gpu=True)
    rest = llama().weights - llama().linear_weights  # embeddings and head are not quantized
    linear = memory.frozen_weights - (4 if quantization else 2) * rest
    assert 8 * linear / llama().linear_weights == pytest.approx(bits, rel=1e-3)


def test_a_small_adapter_on_4_bits_needs_the_whole_model_in_fp32_at_its_end() -> None:
    model = {"source": "hf://acme/llama", "quantization": {"type": "nf4"}}
    memory = estimate(spec({"microBatchSize": 1, "maxLength": 64}, model=model, method={"lora": {}}), llama())
    assert memory.total - memory.overhead == pytest.approx(4 * llama().weights, rel=0.02)


def test_less_is_less() -> None:
    def activations(**training: Any) -> int:
        memory = estimate(spec(training), llama())
        return memory.activations + memory.logits

    whole = activations()
    assert activations(microBatchSize=4) < whole
    assert activations(gradientCheckpointing=True) < 0.5 * whole
    assert activations(precision="fp32") > whole
    assert activations(batchSize=4) == activations(batchSize=4, microBatchSize=4)


def test_the_first_change_that_makes_it_fit_is_named_with_what_it_comes_to() -> None:
    model = Architecture.of_new_model(
        NewModel.model_validate({"hiddenSize": 1024, "layers": 16, "attentionHeads": 16, "intermediateSize": 4096})
    )
    whole = estimate(spec(), model).total
    change = change_that_fits(spec(), model, 0.75 * whole)
    assert change is not None
    assert list(change.fields) == ["training.microBatchSize"]
    assert change.memory.total <= 0.75 * whole
    assert f"it takes {change.memory.total / GIB:.1f} GiB" in str(change)

    tight = change_that_fits(spec({"microBatchSize": 1, "gradientCheckpointing": True}), model, 2.5 * GIB)
    assert tight is not None
    assert "method" in tight.fields
    assert change_that_fits(spec(), model, 0.5 * GIB) is None


def test_a_pair_is_two_texts_and_has_no_logits() -> None:
    """Half as many pairs at once take as much as texts do, but for the logits."""
    training = {"maxLength": 512, "batchSize": 64, "microBatchSize": 8}
    texts = estimate(spec(training), llama())
    pairs = estimate(spec(training | {"microBatchSize": 4}, objective={"reward": {}}), llama())
    assert (pairs.activations, pairs.logits) == (texts.activations, 0)
    assert texts.logits > 0
