"""FSDP2, tensor parallelism and offload: really on, and with the losses of one worker."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, MixtralConfig, PretrainedConfig

from tests.model.conftest import Run, Trained, back_to
from tests.model.jobs import SAVE_EVERY, STEPS, job_of
from tests.model.plants import watch_strategy
from tests.model.processes import train
from tests.model.test_equivalence import assert_same
from tunesmith.api.pod import RunFolder


@pytest.mark.parametrize(
    ("workers", "changes"),
    [(2, {}), (4, {}), (4, {"packing": False, "gradientCheckpointing": True, "microBatchSize": 2})],
    ids=["two, packed", "four, packed", "four, padded, activations recomputed"],
)
def test_fsdp(workers: int, changes: dict[str, Any], trained: Trained, reference: Run) -> None:
    run = trained(workers=workers, scaling={"fsdp": {}}, **changes)
    assert_same(run, reference)
    assert run.held_at_export() == 0
    assert len(run.strategies()) == workers
    for facts in run.strategies():
        assert (facts["model"], facts["world"], facts["workers"]) == ("FSDPLlamaForCausalLM", workers, workers)
        share = facts["parameters"] / workers
        assert facts["moments"] == facts["weights"] == share, "every dimension is a multiple of the workers"
        assert facts["forwards"] == (2 if "gradientCheckpointing" in changes else 1)
        assert facts["offload"] == []


@pytest.mark.parametrize(
    ("workers", "scaling", "changes"),
    [(2, {}, {}), (2, {}, {"packing": False, "microBatchSize": 3}), (4, {}, {}), (4, {"fsdp": {}}, {})],
    ids=["two workers", "two workers, padded", "two by two, gradients averaged", "two by two, sharded"],
)
def test_tensor_parallel(
    workers: int, scaling: dict[str, Any], changes: dict[str, Any], trained: Trained, reference: Run
) -> None:
    run = trained(workers=workers, scaling={"tensorParallel": 2} | scaling, **changes)
    assert_same(run, reference)
    assert run.held_at_export() == 0
    weights = load_file(run.folder.model / "model.safetensors")
    assert len(run.strategies()) == workers
    for facts in run.strategies():
        assert (facts["world"], facts["workers"]) == (workers, workers)
        parameters, fsdp = facts["parameters"], "fsdp" in scaling
        # norms, and the embedding, which is the head too, stay whole among those that share layers
        whole = sum(t.numel() for name, t in weights.items() if "norm" in name or "embed" in name)
        held = (parameters - whole) / 2 + whole
        assert facts["moments"] == facts["weights"] == (held / 2 if fsdp else held)
        assert any("Shard(dim=1)" in shard for shard in facts["shards"])


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_offload(stage: int, trained: Trained, reference: Run) -> None:
    run = trained(workers=2, scaling={"deepspeed": {"zeroStage": stage, "offload": True}})
    assert_same(run, reference)
    for facts in run.strategies():
        assert (facts["model"], facts["stage"]) == ("DeepSpeedEngine", stage)
        assert facts["offload"] == (["optimizer", "weights"] if stage == 3 else ["optimizer"])
        assert facts["moments_at"] == ["cpu"]


@pytest.mark.parametrize(
    "after",
    [{"workers": 4, "fsdp": {}}, {"workers": 1}, {"workers": 2, "deepspeed": {"zeroStage": 3}}],
    ids=["four", "one", "ZeRO-3"],
)
def test_others_go_on_with_a_run_of_fsdp(
    after: dict[str, Any], trained: Trained, reference: Run, rows: Path, tmp_path: Path
) -> None:
    run = back_to(SAVE_EVERY, trained(workers=2, scaling={"fsdp": {}}), tmp_path / "run")
    outcomes = train(job_of(rows, scaling=after), run.folder, after["workers"], watch_strategy)
    assert {outcome.reason for outcome in outcomes} == {"Succeeded"}
    assert len(run.losses()) == STEPS
    assert run.losses() == pytest.approx(reference.losses(), rel=1e-5)


def test_tensor_parallel_workers_go_on_with_a_run_of_one(reference: Run, rows: Path, tmp_path: Path) -> None:
    run = back_to(SAVE_EVERY, reference, tmp_path / "run")
    train(job_of(rows, scaling={"workers": 2, "tensorParallel": 2}), run.folder, 2)
    assert run.losses() == pytest.approx(reference.losses(), rel=1e-5)
    mine, theirs = (load_file(r.folder.model / "model.safetensors") for r in (run, reference))
    assert {name: t.shape for name, t in mine.items()} == {name: t.shape for name, t in theirs.items()}


def test_adapters_on_a_sharded_base(trained: Trained, reference: Run) -> None:
    lora = {"base": reference.folder.model, "lora": {"rank": 4, "alpha": 16}}
    run = trained(workers=2, scaling={"fsdp": {"offload": True}}, **lora)
    assert run.losses() == pytest.approx(trained(**lora).losses(), rel=1e-5)
    for facts in run.strategies():
        assert facts["model"].startswith("FSDP")
        assert facts["offload"] == ["optimizer", "weights"]
        assert facts["weights"] == facts["parameters"] / 2
    assert all(t.numel() for t in load_file(run.folder.model / "adapter_model.safetensors").values())


def test_more_workers_than_heads_can_be_cut_among(rows: Path, tmp_path: Path) -> None:
    outcomes = train(job_of(rows, scaling={"workers": 4, "tensorParallel": 4}), RunFolder(tmp_path / "run"), 4)
    assert {(outcome.reason, outcome.message) for outcome in outcomes} == {
        (
            "InvalidInput",
            "spec.scaling.tensorParallel: is 4, which does not divide the model's 2 key value heads",
        )
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            GPT2Config(vocab_size=280, n_embd=32, n_layer=1, n_head=4, n_positions=64),
            "GPT2LMHeadModel has no plan for it in transformers; use fsdp",
        ),
        (
            MixtralConfig(
                vocab_size=280,
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=4,
                num_key_value_heads=2,
                num_local_experts=2,
            ),
            "MixtralForCausalLM needs moe_tp_experts, which is not supported; use fsdp",
        ),
    ],
    ids=["no plan", "experts"],
)
def test_a_model_that_cannot_be_cut_is_refused(
    config: PretrainedConfig, message: str, reference: Run, rows: Path, tmp_path: Path
) -> None:
    """Cut as far as it goes, it would compute something else."""
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    for file in reference.folder.model.glob("tokenizer*"):
        (base / file.name).write_bytes(file.read_bytes())
    job = job_of(rows, base=base, scaling={"workers": 2, "tensorParallel": 2})
    outcomes = train(job, RunFolder(tmp_path / "run"), 2)
    assert {(outcome.reason, outcome.message) for outcome in outcomes} == {
        ("InvalidInput", f"spec.scaling.tensorParallel: {message}")
    }
