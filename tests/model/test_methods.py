"""Adapters: plain, on quantized weights, merged; and what a run leaves of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.benchmarks.merge import dequantized
from tests.model.conftest import Run, Trained
from tests.model.jobs import STEPS, job_of
from tests.model.processes import train
from tunesmith.api.model import Quantization
from tunesmith.api.pod import RunFolder
from tunesmith.models.adapters import attach, merged
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer
from tunesmith.models.start import start_tokenizer, trainable_model
from tunesmith.sources import Resolver

LORA = {"rank": 4, "alpha": 16}
IDS = torch.arange(3, 40)[None]


def logits_of(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return logits


@pytest.fixture(scope="session")
def adapted(trained: Trained, base: Path) -> Run:
    return trained(base=base, lora=LORA)


def test_a_model_with_fresh_adapters_is_its_base(rows: Path, base: Path) -> None:
    spec = job_of(rows, base=base, lora=LORA).spec
    tokenizer = start_tokenizer(spec, Resolver(), RunFolder(base), [])
    model = trainable_model(spec, Resolver(), tokenizer)
    assert torch.equal(logits_of(model), logits_of(load_model(ModelLocation(str(base)), torch.float32)))
    trained = {name.rsplit(".", 3)[-3] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"lora_A", "lora_B"}
    layers = {name.split(".")[-4] for name, p in model.named_parameters() if p.requires_grad}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(("workers", "zero"), [(2, None), (2, 3)])
def test_adapters_are_trained_alike_by_several_workers(
    workers: int, zero: int | None, trained: Trained, base: Path, adapted: Run
) -> None:
    run = trained(workers=workers, zero=zero, base=base, lora=LORA)
    assert len(adapted.losses()) == STEPS
    assert run.losses() == pytest.approx(adapted.losses(), rel=1e-5)
    mine, theirs = (load_file(r.folder.model / "adapter_model.safetensors") for r in (run, adapted))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.numel() > 0
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-5)


def test_a_frozen_base_may_recompute_its_activations(trained: Trained, base: Path, adapted: Run) -> None:
    run = trained(base=base, lora=LORA, gradientCheckpointing=True)
    assert run.losses() == pytest.approx(adapted.losses(), rel=1e-5)
    assert [facts["forwards"] for facts in run.strategies() + adapted.strategies()] == [2, 1]


def test_an_adapter_is_saved_with_the_address_of_its_base(adapted: Run, base: Path) -> None:
    assert not adapted.folder.adapter.exists()
    assert not (adapted.folder.model / "model.safetensors").exists()
    location = ModelLocation(str(adapted.folder.model))
    assert location.adapter_base == ModelLocation(str(base.resolve()))


def test_a_merged_model_is_its_base_with_the_adapter(trained: Trained, base: Path, adapted: Run) -> None:
    from peft import PeftModel

    folder = trained(base=base, lora=LORA | {"merge": True}).folder
    merged = load_model(ModelLocation(str(folder.model)), torch.float32)
    original = load_model(ModelLocation(str(base)), torch.float32)
    before = logits_of(original)
    with_adapter = logits_of(PeftModel.from_pretrained(original, folder.adapter))
    torch.testing.assert_close(logits_of(merged), with_adapter, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits_of(merged), before, atol=1e-2)
    loaded = load_model(ModelLocation(str(adapted.folder.model)), torch.float32)
    torch.testing.assert_close(logits_of(loaded), logits_of(merged))
    assert not (folder.model / "adapter_config.json").exists()


@pytest.fixture(scope="session")
def on_four_bits(trained: Trained, base: Path) -> Run:
    return trained(base=base, lora=LORA | {"merge": True}, quantization={"type": "nf4"}, learningRate=1e-2)


@pytest.mark.parametrize("double", [True, False], ids=["scales quantized too", "scales whole"])
def test_quantized_weights_carry_adapters(double: bool, base: Path, rows: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    quantization = {"type": "nf4"} if double else {"type": "nf4", "doubleQuantization": False}
    spec = job_of(rows, base=base, lora=LORA, quantization=quantization).spec
    model = trainable_model(spec, Resolver(), start_tokenizer(spec, Resolver(), RunFolder(base), []))
    quantized = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(quantized) == 2 * 7, "every linear layer but the head"
    states = [layer.weight.quant_state for layer in quantized]
    assert {(state.quant_type, state.nested, state.state2 is not None) for state in states} == {("nf4", double, double)}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_adapters_on_quantized_weights_learn(on_four_bits: Run) -> None:
    validation = on_four_bits.column("validation/loss")
    assert validation == sorted(validation, reverse=True)
    weights = load_file(on_four_bits.folder.model / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}, "merged into the whole base"


def test_an_adapter_of_quantized_weights_is_merged_into_the_whole_ones(on_four_bits: Run, base: Path) -> None:
    folder = on_four_bits.folder
    whole = attach(load_model(ModelLocation(str(base)), torch.float32), str(base), folder.adapter)
    written = load_model(ModelLocation(str(folder.model)), torch.float32)
    torch.testing.assert_close(logits_of(written), logits_of(whole), rtol=1e-5, atol=1e-5)


def test_what_was_trained_is_the_adapter_on_what_the_quantized_weights_stand_for(on_four_bits: Run, base: Path) -> None:
    """Beside them or merged into them; the whole weights, which are those that are written, are a little off."""
    location, adapter = ModelLocation(str(base)), on_four_bits.folder.adapter
    quantized = load_model(location, torch.float32, Quantization(type="nf4"))
    beside, within = (attach(dequantized(location, quantized), str(base), adapter) for _ in range(2))
    as_trained = logits_of(attach(quantized, str(base), adapter))
    torch.testing.assert_close(logits_of(beside), as_trained, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits_of(merged(within)), as_trained, rtol=1e-5, atol=1e-5)
    written = logits_of(load_model(ModelLocation(str(on_four_bits.folder.model)), torch.float32))
    assert 1e-3 < (written - as_trained).norm() / as_trained.norm() < 0.2


VARIANTS: dict[str, dict[str, Any]] = {
    "stabilized": {"lora": LORA | {"rankStabilized": True}},
    "DoRA": {"lora": LORA | {"dora": True}},
    "AdaLoRA": {"adalora": {"initialRank": 6, "targetRank": 3}},
    "prefix": {"prefix": {"tokens": 4}},
    "P-tuning": {"ptuning": {"tokens": 4, "hiddenSize": 16}},
}


@pytest.mark.parametrize("method", [VARIANTS["stabilized"], VARIANTS["DoRA"]], ids=["stabilized", "DoRA"])
def test_variants_start_as_the_base_and_merge_into_it(
    method: dict[str, Any], trained: Trained, base: Path, rows: Path
) -> None:
    spec = job_of(rows, base=base, method=method).spec
    fresh = trainable_model(spec, Resolver(), load_tokenizer(ModelLocation(str(base))))
    plain = load_model(ModelLocation(str(base)), torch.float32)
    torch.testing.assert_close(logits_of(fresh), logits_of(plain), rtol=1e-6, atol=1e-6)

    run = trained(base=base, method={"lora": method["lora"] | {"merge": True}}, learningRate=1e-2)
    assert len(run.losses()) == STEPS
    merged = load_model(ModelLocation(str(run.folder.model)), torch.float32)
    unmerged = PeftModel.from_pretrained(plain, str(run.folder.adapter))
    torch.testing.assert_close(logits_of(merged), logits_of(unmerged), rtol=1e-5, atol=1e-5)
    assert (logits_of(merged) - logits_of(fresh)).norm() > 1e-2 * logits_of(fresh).norm()


def test_the_scale_of_high_ranks_is_that_of_the_paper(base: Path, rows: Path) -> None:
    spec = job_of(rows, base=base, method=VARIANTS["stabilized"]).spec
    model: Any = trainable_model(spec, Resolver(), load_tokenizer(ModelLocation(str(base))))
    scales = {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")}
    assert scales == {16 / 4**0.5}


@pytest.mark.parametrize(
    ("kind", "variant"),
    [(kind, variant) for kind in ("nf4", "int8") for variant in VARIANTS if (kind, variant) != ("int8", "DoRA")],
)
def test_every_method_is_trained_on_a_quantized_base(kind: str, variant: str, trained: Trained, base: Path) -> None:
    method = VARIANTS[variant]
    run = trained(base=base, method=method, quantization={"type": kind}, learningRate=1e-2, maxSteps=4, epochs=None)
    whole = trained(base=base, method=method, learningRate=1e-2, maxSteps=4, epochs=None)
    assert run.losses() == pytest.approx(whole.losses(), rel=2e-2), "the rounding of the base's weights"
    assert run.losses() != pytest.approx(whole.losses(), rel=1e-7), "it is quantized"
    mine, theirs = (load_file(r.folder.model / "adapter_model.safetensors") for r in (run, whole))
    assert mine.keys() == theirs.keys()
    assert all(tensor.isfinite().all() for tensor in mine.values())


def test_eight_bits_pass_gradients_on(base: Path, rows: Path) -> None:
    """Those of the adapters, on a CPU, through every quantized layer; close to those of the base in full precision."""
    from bitsandbytes.nn import Linear8bitLt

    gradients = []
    for quantization in (None, {"type": "int8"}):
        spec = job_of(rows, base=base, lora=LORA, quantization=quantization).spec
        model: Any = trainable_model(spec, Resolver(), load_tokenizer(ModelLocation(str(base))))
        layers = [module for module in model.modules() if isinstance(module, Linear8bitLt)]
        assert len(layers) == (2 * 7 if quantization else 0)
        assert {layer.weight.dtype for layer in layers} <= {torch.int8}
        model(input_ids=IDS, labels=IDS).loss.backward()
        found = {name: p.grad for name, p in model.named_parameters() if "lora_B" in name}
        assert all(gradient.abs().sum() > 0 for gradient in found.values())
        gradients.append(torch.cat([gradient.flatten() for gradient in found.values()]))
    assert (gradients[0] - gradients[1]).norm() < 0.1 * gradients[0].norm()


def test_a_run_says_how_few_weights_it_trains(adapted: Run) -> None:
    summary = json.loads(adapted.folder.data.read_text())
    weights = load_file(adapted.folder.model / "adapter_model.safetensors").values()
    assert summary["trainable_parameters"] == sum(tensor.numel() for tensor in weights)
    log = (adapted.folder.logs / "worker-0.log").read_text()
    total = summary["total_parameters"]
    assert f"{summary['trainable_parameters']:,} trainable parameters of {total:,}, " in log


def test_an_adapter_that_does_not_fit_its_base_is_refused(adapted: Run, base: Path, rows: Path, tmp_path: Path) -> None:
    """The base was replaced by a wider one after the adapter had been trained."""
    adapter = tmp_path / "adapter"
    shutil.copytree(adapted.folder.model, adapter)
    wider = tmp_path / "wider"
    LlamaForCausalLM(LlamaConfig.from_pretrained(base, intermediate_size=128)).save_pretrained(wider)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(wider)}))
    (outcome,) = train(job_of(rows, base=adapter), RunFolder(tmp_path / "run"))
    assert (outcome.reason, outcome.message) == (
        "InvalidInput",
        f"{adapter}: spec.model.source: does not fit its base {wider}: model.layers.0.mlp.down_proj is [32, 128] "
        "there, and the adapter's lora_A.weight is [4, 64]",
    )


def test_layers_are_chosen_by_a_regular_expression(trained: Trained, base: Path) -> None:
    run = trained(base=base, lora=LORA | {"targetModules": r".*[.](q_proj|v_proj)"})
    names = load_file(run.folder.model / "adapter_model.safetensors").keys()
    assert {name.split(".")[-3] for name in names} == {"q_proj", "v_proj"}


def test_an_expression_that_matches_no_layer_is_refused(rows: Path, base: Path, tmp_path: Path) -> None:
    (outcome,) = train(job_of(rows, base=base, lora=LORA | {"targetModules": "attention"}), RunFolder(tmp_path / "run"))
    assert outcome.reason == "InvalidInput"
    assert outcome.message.startswith("spec.method.lora.targetModules: 'attention' matches no layer: ")
