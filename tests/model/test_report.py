"""Reports and cards of real runs: what the card says to do works, and gives what the evaluation saw."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.model.jobs import body_of, write_rows
from tunesmith.cli.main import main

PROMPT = "2 + 2 ="


def code_of(card: Path) -> str:
    """The card's Python, for the folder that it lies in."""
    (code,) = re.findall(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    return str(code).replace('folder = "."', f"folder = {str(card.parent)!r}")


def said_by(card: Path) -> str:
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(code_of(card), {})
    return told.getvalue()


def test_a_run_leaves_its_page_and_a_card_whose_code_says_what_the_evaluation_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("rows.jsonl"))
    Path("test.jsonl").write_text(json.dumps({"prompt": PROMPT, "response": "4"}) + "\n")
    bodies = [body_of(Path("rows.jsonl"), epochs=1), body_of(Path("rows.jsonl"), lora={"rank": 4}, epochs=1)]
    for body, name in zip(bodies, ("first", "second"), strict=True):
        body["metadata"]["name"] = name
        body["spec"]["dataset"]["test"] = {"source": "test.jsonl"}
        body["spec"]["evaluation"] = {"metrics": ["exactMatch", "perplexity"], "maxNewTokens": 5}
    bodies[1]["spec"]["model"] = {"source": "job://first"}
    Path("jobs.yaml").write_text(yaml.safe_dump_all(bodies))
    assert main(["run", "-f", "jobs.yaml"]) == 0
    printed = capsys.readouterr().out
    for name, library in (("first", "transformers"), ("second", "peft")):
        folder = Path("runs") / name
        assert f"report: {folder / 'report.html'}" in printed
        page = (folder / "report.html").read_text()
        for part in ("Highest memory", "too few rows to tell", "1 worker, each on", "data-label"):
            assert part in page, part
        card = folder / "model" / "README.md"
        data = ModelCard.load(card).data
        assert data.library_name == library
        assert data.eval_results is not None
        assert [result.metric_type for result in data.eval_results] == ["exact_match", "perplexity"]
        (row,) = map(json.loads, (folder / "evaluation" / "rows.jsonl").read_text().splitlines())
        assert said_by(card).removesuffix("\n") == row["tuned"]["answer"]
    outputs = Path("runs/second/evaluation/outputs")
    before = {path: path.stat().st_mtime_ns for path in outputs.rglob("*") if path.is_file()}
    assert before
    assert main(["evaluate", "runs/second"]) == 0
    after = {path: path.stat().st_mtime_ns for path in outputs.rglob("*") if path.is_file()}
    assert before == after, "a card is no part of the model: what it gave is still good"
    assert main(["report", "runs/first", "runs/second"]) == 0
    assert "method.lora.rank" in Path("comparison.html").read_text()


@pytest.mark.parametrize(
    ("objective", "columns"),
    [
        ({"maskedLM": {}}, {"text": "prompt"}),
        ({"seq2seq": {"template": "sum: {prompt}"}}, {}),
        ({"causalLM": {}}, {"text": "prompt"}),
        ({"instruction": {}}, {}),
    ],
)
def test_the_cards_code_works_for_every_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: dict[str, Any], columns: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("rows.jsonl"), rows=40)
    body = body_of(Path("rows.jsonl"), epochs=1, batchSize=40, microBatchSize=20)
    body["spec"]["objective"] = objective
    body["spec"]["dataset"] = {"train": {"source": "rows.jsonl"}, "columns": columns}
    new = body["spec"]["model"]["config"]
    new.pop("keyValueHeads")
    if "maskedLM" in objective:
        new["architecture"] = "bert"
    if "seq2seq" in objective:
        new |= {"architecture": "t5", "tokenizer": {"vocabularySize": 400}}
    Path("job.yaml").write_text(yaml.safe_dump(body))
    assert main(["run", "-f", "job.yaml"]) == 0
    card = Path("runs/sums/model/README.md")
    said_by(card)
    assert "It has not been evaluated" in card.read_text()


def test_the_card_of_a_reward_model_scores_as_the_evaluation_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("rows.jsonl"), rows=40)
    pair = {"prompt": PROMPT, "chosen": "4", "rejected": "5"}
    Path("pairs.jsonl").write_text(f"{json.dumps(pair)}\n" * 20)
    first = body_of(Path("rows.jsonl"), epochs=1)
    reward = body_of(Path("pairs.jsonl"), lora={"rank": 4}, epochs=2, batchSize=8, microBatchSize=8)
    first["metadata"]["name"], reward["metadata"]["name"] = "first", "reward"
    reward["spec"] |= {
        "model": {"source": "job://first"},
        "dataset": {"train": {"source": "pairs.jsonl"}, "test": {"source": "pairs.jsonl"}, "deduplicate": False},
        "objective": {"reward": {"template": "{prompt} {response}", "centringTokens": 4}},
        "evaluation": {"metrics": ["pairAccuracy"]},
    }
    Path("jobs.yaml").write_text(yaml.safe_dump_all([first, reward]))
    assert main(["run", "-f", "jobs.yaml"]) == 0
    row = json.loads(Path("runs/reward/evaluation/rows.jsonl").read_text().splitlines()[0])
    score = float(said_by(Path("runs/reward/model/README.md")))
    assert score == pytest.approx(row["tuned"]["chosen"], abs=1e-4)
    assert score != pytest.approx(row["tuned"]["rejected"], abs=1e-4)
    assert "Accuracy on pairs" in Path("runs/reward/report.html").read_text()
