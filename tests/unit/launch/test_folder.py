"""A run's folder belongs to one job."""

from pathlib import Path

import pytest

from tests.unit.data.specs import MODEL
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError
from tunesmith.api.outcome import Outcome, Overrides
from tunesmith.api.pod import RunFolder
from tunesmith.launch.folder import end_attempt, open_folder, read_attempts, read_result


def job_on(rows: str) -> FineTuneJob:
    spec = {
        "model": {"config": MODEL},
        "dataset": {"train": {"source": rows}},
        "objective": {"causalLM": {}},
        "method": {"full": {}},
        "training": {"maxLength": 32},
    }
    return FineTuneJob.model_validate({"metadata": {"name": "a"}, "spec": spec})


def refuse_once(folder: RunFolder) -> None:
    """A run that ends before its first step."""
    with open_folder(folder, job_on("wrong.jsonl")):
        folder.tokenizer.mkdir()
        (folder.tokenizer / "tokenizer.json").touch()
        outcome = Outcome(reason="InvalidInput", message="does not exist", attempt=1)
        end_attempt(folder, [], outcome, Overrides())


def test_a_file_that_was_corrected_just_runs(tmp_path: Path) -> None:
    """What was made of the wrong one, such as a tokenizer, is not gone on with."""
    folder = RunFolder(tmp_path)
    refuse_once(folder)
    with open_folder(folder, job_on("right.jsonl")):
        assert not folder.tokenizer.exists()
        assert (read_result(folder.result), read_attempts(folder)) == (None, [])


@pytest.mark.parametrize("name", ["checkpoints", "metrics", "model", "trials", "evaluation"])
def test_a_run_that_has_begun_is_kept(name: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    refuse_once(folder)
    work: Path = getattr(folder, name)
    work.touch()
    refused = pytest.raises(InputError, match=r"holds a run of another job: spec\.dataset\.train\.source differ; start")
    with refused, open_folder(folder, job_on("right.jsonl")):
        pass
    assert work.exists()
