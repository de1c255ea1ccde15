"""Models that this job has not trained are evaluated as they are."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.api.base import API_VERSION
from tunesmith.api.job import FineTuneJob
from tunesmith.api.model import NewModel
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import JOB_FILE, RUN_FILE, RunConfig, RunFolder
from tunesmith.cli.evaluate import evaluate_in_pod
from tunesmith.cli.main import main
from tunesmith.evaluation.report import read_report
from tunesmith.evaluation.run import evaluate_job
from tunesmith.models.build import build_model
from tunesmith.models.tokenizer import train_tokenizer
from tunesmith.sources import Resolver

TEMPLATE = "Q: {prompt} A: {response}"
ROWS = [{"prompt": f"{n} + {n} =", "response": str(2 * n), "text": f"{n} and {n} are {2 * n}."} for n in range(12)]


def save_model(folder: Path, architecture: str, seed: int = 0) -> Path:
    """A model with random weights and its tokenizer, without a chat template."""
    sizes: dict[str, Any] = {"hiddenSize": 32, "layers": 2, "attentionHeads": 2, "intermediateSize": 32}
    new = NewModel.model_validate(
        sizes | {"architecture": architecture, "contextLength": 64, "tokenizer": {"vocabularySize": 400}}
    )
    tokenizer = train_tokenizer([json.dumps(row) for row in ROWS], new)
    build_model(new, tokenizer, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def alone(folder: Path, model: Path, columns: tuple[str, ...] = ("prompt", "response"), **evaluation: Any) -> Any:
    """A job's file as data, and the rows that it reads."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({name: row[name] for name in columns}) + "\n" for row in ROWS))
    return {
        "apiVersion": API_VERSION,
        "kind": "FineTuneJob",
        "metadata": {"name": "judged"},
        "spec": {
            "model": {"source": str(model)},
            "dataset": {"test": {"source": str(rows)}},
            "training": {"maxLength": 64},
            "evaluation": {"metrics": ["perplexity"], "maxNewTokens": 4} | evaluation,
        },
    }


def evaluated(folder: Path, body: Any) -> tuple[Outcome, RunFolder]:
    run = RunFolder(folder / "runs" / "judged")
    return evaluate_job(FineTuneJob.model_validate(body), run, Resolver()), run


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("llama"), "llama")


def test_tunesmith_run_evaluates_and_trains_nothing(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = alone(tmp_path, llama, metrics=["perplexity", "exactMatch"], template=TEMPLATE)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    assert main(["run", "-f", str(tmp_path / "job.yaml"), "--runs", str(tmp_path / "runs")]) == 0
    folder = RunFolder(tmp_path / "runs" / "judged")
    report = read_report(folder)
    assert (report.rows, report.tuned.address, report.base) == (len(ROWS), str(llama), None)
    first = json.loads((folder.evaluation / "rows.jsonl").read_text().splitlines()[0])
    assert first["prompt"] == "Q: 0 + 0 = A: "
    assert not folder.model.exists() and not folder.checkpoints.exists() and not folder.metrics.exists()
    printed = capsys.readouterr().out
    assert f"model: {llama}" in printed
    assert "base" not in printed, "there is none"

    assert main(["evaluate", str(folder.root)]) == 0
    again = read_report(folder)
    assert [metric.tuned for metric in again.metrics] == [metric.tuned for metric in report.metrics]


def test_an_earlier_job_is_found_where_the_operator_says(llama: Path, tmp_path: Path) -> None:
    """job://NAME keeps its name in gates and reports; RunConfig says where the claim with its folder is."""
    earlier = alone(tmp_path, llama, template=TEMPLATE)
    mounted = tmp_path / "mnt"
    outcome = evaluate_job(FineTuneJob.model_validate(earlier), RunFolder(mounted / "pvc/runs/first"), Resolver())
    assert outcome.reason == "Succeeded", outcome.message
    gate = {"metric": "perplexity", "notWorseThan": "job://first"}
    other = save_model(tmp_path / "other", "llama", seed=1)
    body = alone(tmp_path, other, template=TEMPLATE, compareWith=["job://first"], gates=[gate])
    config = tmp_path / "config"
    config.mkdir()
    (config / JOB_FILE).write_text(json.dumps(body))
    run = RunConfig(attempt=1, folder="pvc://runs/second", phase="evaluate", runs={"first": "pvc://runs/first"})
    (config / RUN_FILE).write_text(run.model_dump_json())
    assert evaluate_in_pod(config, mounted, tmp_path / "log") == 0
    left = Outcome.model_validate_json((tmp_path / "log").read_text())
    assert left.evaluation is not None, left.message
    (metric,) = read_report(RunFolder(mounted / "pvc/runs/second")).metrics
    assert [comparison.to for comparison in metric.comparisons] == ["job://first"]
    assert left.artifacts.model is None, "it made none"


def test_plain_texts_have_a_perplexity(llama: Path, tmp_path: Path) -> None:
    outcome, run = evaluated(tmp_path, alone(tmp_path, llama, ("text",)))
    assert outcome.reason == "Succeeded", outcome.message
    assert json.loads((run.evaluation / "rows.jsonl").read_text().splitlines()[1])["text"] == "1 and 1 are 2."


@pytest.mark.parametrize(
    ("architecture", "columns", "evaluation"),
    [
        ("bert", ("text",), {}),
        (
            "t5",
            ("prompt", "response"),
            {"metrics": ["perplexity", "exactMatch"], "template": "add: {prompt} {response}"},
        ),
        ("t5", ("text",), {}),
    ],
)
def test_other_kinds_are_asked_in_their_own_way(
    architecture: str, columns: tuple[str, ...], evaluation: dict[str, Any], tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model", architecture)
    outcome, _ = evaluated(tmp_path, alone(tmp_path, model, columns, **evaluation))
    assert outcome.reason == "Succeeded", outcome.message


@pytest.mark.parametrize(
    ("columns", "evaluation", "message"),
    [
        (("prompt", "response"), {}, "spec.evaluation.template: is not set, and the model's tokenizer has no chat"),
        (
            ("prompt", "response"),
            {"template": "Q: {prompt}"},
            "spec.evaluation.template: should contain {response} once",
        ),
        (("text",), {"metrics": ["exactMatch"]}, "exactMatch need answers, and the test rows have no column 'prompt'"),
        (("prompt",), {"template": TEMPLATE}, "there is no column 'response'"),
        (("prompt", "response"), {"metrics": ["pairAccuracy"], "template": TEMPLATE}, "there is no column 'chosen'"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    columns: tuple[str, ...], evaluation: dict[str, Any], message: str, llama: Path, tmp_path: Path
) -> None:
    outcome, _ = evaluated(tmp_path, alone(tmp_path, llama, columns, **evaluation))
    assert outcome.reason == "InvalidInput"
    assert message in outcome.message
    assert "\n" not in outcome.message
