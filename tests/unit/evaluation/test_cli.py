"""`tunesmith evaluate`: what is said when there is nothing to evaluate."""

import json
from pathlib import Path

import pytest

from tunesmith.api.outcome import Outcome
from tunesmith.cli.evaluate import evaluate_in_pod
from tunesmith.cli.main import main

MODEL = {"hiddenSize": 16, "layers": 1, "attentionHeads": 2, "intermediateSize": 16, "contextLength": 32}
JOB = {
    "metadata": {"name": "add"},
    "spec": {
        "model": {"config": MODEL},
        "dataset": {"train": {"source": "a.jsonl"}},
        "objective": {"causalLM": {}},
        "method": {"full": {}},
        "training": {"maxLength": 32},
    },
}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "{folder}: is not a run's folder: it holds no config.json"),
        ("{", "{folder}/config.json: is damaged; run the job again"),
        ("[]", "{folder}/config.json: is damaged; run the job again"),
        ("{}", "{folder}/config.json: is damaged; run the job again"),
    ],
)
def test_a_folder_that_is_no_run(
    tmp_path: Path, config: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert main(["evaluate", str(tmp_path)]) == 2
    assert capsys.readouterr().err == message.format(folder=tmp_path) + "\n"


def test_a_job_without_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tunesmith.api.identity import identity_fields
    from tunesmith.api.job import FineTuneJob

    fields = identity_fields(FineTuneJob.model_validate(JOB).spec)
    (tmp_path / "config.json").write_text(json.dumps({"job": JOB, "fields": fields}))
    assert main(["evaluate", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err == "add: InvalidInput: spec.evaluation: is not set: it says what to evaluate\n"


@pytest.mark.parametrize("command", [["evaluate"], ["evaluate", "--pod", "runs/add"]])
def test_a_folder_or_a_pod_and_not_both(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "RUN_FOLDER" in capsys.readouterr().err


def test_a_pod_whose_config_is_broken_says_so_and_is_done(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    (tmp_path / "job.json").write_text("{")
    assert evaluate_in_pod(config=tmp_path, mount_root=tmp_path, termination_log=log) == 0
    outcome = Outcome.model_validate_json(log.read_text())
    assert outcome.reason == "InvalidInput"
    assert "is not what the operator mounts" in outcome.message
