"""`tunesmith estimate` as a user sees it."""

import json
from pathlib import Path

import pytest

from tests.unit.api.invalid import VALID_PIPELINE
from tunesmith.cli.main import main

JOB = """
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: {name}}}
spec:
  model: {model}
  dataset: {{train: {{source: rows.jsonl}}}}
  objective: {{causalLM: {{}}}}
  method: {method}
  training: {{microBatchSize: 16}}
  scaling: {{resources: {{memory: {memory}}}}}
"""
NEW = "{config: {hiddenSize: 768, layers: 12, attentionHeads: 12, intermediateSize: 3072}}"


def write(folder: Path, *jobs: str) -> str:
    (folder / "job.yaml").write_text("---".join(jobs))
    return str(folder / "job.yaml")


def job(name: str = "one", model: str = NEW, method: str = "{full: {}}", memory: str = "64Gi") -> str:
    return JOB.format(name=name, model=model, method=method, memory=memory)


def test_a_job_that_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "-f", write(tmp_path, job())]) == 0
    printed = capsys.readouterr().out
    assert "119,556,864 weights, 119,556,864 of them trained" in printed
    assert "fits in spec.scaling.resources.memory (64.0 GiB)" in printed
    for part in ("weights", "gradients", "optimizer", "activations", "logits", "overhead", "total, at most"):
        assert part in printed


def test_a_job_that_does_not_fit_is_told_what_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "-f", write(tmp_path, job(memory="10Gi"))]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "does not fit in spec.scaling.resources.memory (10.0 GiB); with training.microBatchSize: " in printed


def test_a_job_on_the_model_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = (job("one"), job("two", "{source: 'job://one'}", "{lora: {rank: 8}}"))
    assert main(["estimate", "-f", write(tmp_path, *chain)]) == 0
    assert "119,556,864 weights, 1,695,744 of them trained" in capsys.readouterr().out


def test_the_model_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base").mkdir()
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    file = write(tmp_path, job(model="{source: base}"))
    assert main(["estimate", "-f", file, "--device-memory", "1Gi"]) == 0
    assert "fits in --device-memory (1.0 GiB)" in capsys.readouterr().out
    (tmp_path / "base" / "config.json").write_text("{}")
    assert main(["estimate", "-f", file]) == 2
    assert capsys.readouterr().err.startswith("spec.model.source: the configuration of ")


def test_a_pipeline_is_estimated_stage_by_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = VALID_PIPELINE.replace("{source: hf://acme/tiny}", NEW).replace("lora: {rank: 8}", "full: {}")
    assert main(["estimate", "-f", write(tmp_path, text), "--device-memory", "80Gi"]) == 0
    printed = capsys.readouterr().out
    for stage in ("sft", "reward", "ppo"):
        assert f"helpful-{stage}: GPU memory of each worker" in printed


def test_an_evaluation_alone_has_no_training_to_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = job("judged", "{source: hf://acme/tiny}").replace("  objective: {causalLM: {}}\n", "")
    alone = alone.replace("  method: {full: {}}\n", "").replace("  training: {microBatchSize: 16}\n", "")
    alone = alone.replace("train:", "test:") + "  evaluation: {metrics: [perplexity]}\n"
    assert main(["estimate", "-f", write(tmp_path, alone, job())]) == 0
    printed = capsys.readouterr().out
    assert "judged: trains nothing" in printed
    assert "fits in" in printed, "the other job is estimated all the same"
