"""A pipeline on one machine: three stages, one of which fails at first."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.model.jobs import write_rows
from tunesmith.cli.main import main

STAGES = ("sft", "reward", "ppo")
TRAINING = {"batchSize": 16, "microBatchSize": 16, "maxLength": 48, "precision": "fp32", "maxSteps": 2}
LORA: dict[str, Any] = {"lora": {"rank": 4}}
NEW = {"hiddenSize": 32, "layers": 2, "attentionHeads": 4, "intermediateSize": 64, "contextLength": 64}


def write_pairs(rows: Path, file: Path) -> None:
    """The right sum, and one that is wrong by one."""
    read = [json.loads(line) for line in rows.read_text().splitlines()]
    pairs = [{"prompt": r["prompt"], "chosen": r["response"], "rejected": str(int(r["response"]) + 1)} for r in read]
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))


def write_pipeline(file: Path, prompts: str) -> None:
    """The stages' data lie beside the file; `prompts` is the column that PPO reads."""
    spec: dict[str, Any] = {
        "model": {"config": NEW | {"tokenizer": {"vocabularySize": 300}}},
        "template": "{prompt} {response}",
        "sft": {"dataset": {"train": {"source": "rows.jsonl"}}, "method": {"full": {}}, "training": TRAINING},
        "reward": {
            "dataset": {"train": {"source": "pairs.jsonl"}},
            "reward": {"centringPrompts": 4, "centringTokens": 4},
            "method": LORA,
            "training": TRAINING,
        },
        "ppo": {
            "dataset": {"train": {"source": "rows.jsonl"}, "columns": {"prompt": prompts}},
            "ppo": {"reward": [{"model": {}}, {"exactMatch": {}}], "maxNewTokens": 4, "epochs": 1, "miniBatches": 2},
            "method": LORA,
            "training": TRAINING,
        },
    }
    meta = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "RLHFPipeline", "metadata": {"name": "sums"}}
    file.write_text(yaml.safe_dump(meta | {"spec": spec}))


def models(runs: Path) -> dict[str, int]:
    """When each stage's model was written."""
    found = {stage: sorted((runs / f"sums-{stage}" / "model").glob("*.safetensors")) for stage in STAGES}
    return {stage: files[0].stat().st_mtime_ns for stage, files in found.items() if files}


def test_what_has_succeeded_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("rows.jsonl"), rows=40)
    write_pairs(Path("rows.jsonl"), Path("pairs.jsonl"))
    file, runs = Path("pipeline.yaml"), Path("runs")
    write_pipeline(file, prompts="questions")
    assert main(["run", "-f", str(file)]) == 2, "the last stage has a column that is not there"
    assert "questions" in capsys.readouterr().err
    before = models(runs)
    assert set(before) == {"sft", "reward"}

    write_pipeline(file, prompts="prompt")
    assert main(["run", "-f", str(file)]) == 0, "the corrected stage had not begun"
    after = models(runs)
    assert set(after) == set(STAGES)
    assert before.items() < after.items()
    assert main(["run", "-f", str(file), "--fresh"]) == 0
    assert models(runs) == after, "there was nothing left to do"
    page = (runs / "sums.html").read_text()
    for stage in STAGES:
        assert f'href="sums-{stage}/report.html"' in page
        assert (runs / f"sums-{stage}" / "report.html").exists()
