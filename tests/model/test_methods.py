"""Adapters: plain, on quantized weights, merged; and what a run leaves of them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.model.conftest import Run, Trained
from tests.model.jobs import STEPS, job_of
from tests.model.processes import train
from tunesmith.api.pod import RunFolder
from tunesmith.models.load import ModelLocation, load_model
from tunesmith.models.start import start_tokenizer, trainable_model
from tunesmith.sources import Resolver

LORA = {"rank": 4, "alpha": 16}
IDS = torch.arange(3, 40)[None]


def logits_of(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return logits


@pytest.fixture(scope="session")
def base(reference: Run) -> Path:
    """The model of another run."""
    return reference.folder.model


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


def test_quantized_weights_carry_adapters(trained: Trained, base: Path, rows: Path, tmp_path: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    job = job_of(rows, base=base, lora=LORA | {"merge": True}, quantization={"type": "nf4"}, learningRate=1e-2)
    tokenizer = start_tokenizer(job.spec, Resolver(), RunFolder(base), [])
    model = trainable_model(job.spec, Resolver(), tokenizer)
    quantized = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(quantized) == 2 * 7, "every linear layer but the head"
    states = [layer.weight.quant_state for layer in quantized]
    assert {(state.quant_type, state.nested) for state in states} == {("nf4", True)}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}

    run = Run(RunFolder(tmp_path / "run"))
    assert [outcome.reason for outcome in train(job, run.folder)] == ["Succeeded"]
    validation = run.column("validation/loss")
    assert validation == sorted(validation, reverse=True)
    weights = load_file(run.folder.model / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}, "merged into the whole base"


def test_layers_are_chosen_by_a_regular_expression(trained: Trained, base: Path) -> None:
    run = trained(base=base, lora=LORA | {"targetModules": r".*[.](q_proj|v_proj)"})
    names = load_file(run.folder.model / "adapter_model.safetensors").keys()
    assert {name.split(".")[-3] for name in names} == {"q_proj", "v_proj"}


def test_an_expression_that_matches_no_layer_is_refused(rows: Path, base: Path, tmp_path: Path) -> None:
    (outcome,) = train(job_of(rows, base=base, lora=LORA | {"targetModules": "attention"}), RunFolder(tmp_path / "run"))
    assert outcome.reason == "InvalidInput"
    assert outcome.message.startswith("spec.method.lora.targetModules: 'attention' matches no layer: ")
