"""A run's folder: one run at a time, and only of the job that it belongs to."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.base import API_VERSION
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError
from tunesmith.api.outcome import Outcome, Overrides
from tunesmith.api.pod import RunFolder
from tunesmith.launch.folder import (
    FolderInUseError,
    end_attempt,
    open_folder,
    read_attempts,
    read_result,
    write_result,
)


def job(rows: str = "rows.jsonl", **training: Any) -> FineTuneJob:
    spec = {
        "model": {"source": "hf://acme/tiny"},
        "dataset": {"train": {"source": rows}},
        "objective": {"causalLM": {}},
        "method": {"full": {}},
        "training": training,
    }
    return FineTuneJob.model_validate(
        {"apiVersion": API_VERSION, "kind": "FineTuneJob", "metadata": {"name": "a"}, "spec": spec}
    )


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_it_says_what_runs_in_it(folder: RunFolder) -> None:
    with open_folder(folder, job(epochs=2)):
        config = json.loads(folder.config.read_text())
    assert config["job"]["spec"]["training"]["epochs"] == 2
    assert config["job"]["spec"]["training"]["batchSize"] == 32, "resolved"
    assert {"tunesmith", "torch", "transformers"} <= config["versions"].keys()


def test_one_run_at_a_time(folder: RunFolder) -> None:
    in_use = r"is in use by another run; wait for it, or choose another --output$"
    with open_folder(folder, job()), pytest.raises(FolderInUseError, match=in_use):
        open_folder(folder, job()).__enter__()
    with open_folder(folder, job()):
        pass


def test_the_same_job_may_come_again_with_another_way_to_the_result(folder: RunFolder) -> None:
    with open_folder(folder, job(epochs=2, microBatchSize=8)):
        pass
    with open_folder(folder, job(epochs=2, microBatchSize=1, packing=False, gradientCheckpointing=True)):
        pass


def test_another_job_is_told_which_fields_differ(folder: RunFolder) -> None:
    with open_folder(folder, job(epochs=2)):
        (folder.root / "metrics.jsonl").write_text("precious")
    with pytest.raises(InputError, match=r"spec\.training\.epochs, spec\.training\.schedule\.type differ; start over"):
        open_folder(folder, job(epochs=3, schedule={"type": "linear"})).__enter__()


def test_fresh_moves_everything_aside(folder: RunFolder) -> None:
    with open_folder(folder, job(epochs=2)):
        (folder.root / "metrics.jsonl").write_text("precious")
    with open_folder(folder, job(epochs=3), fresh=True):
        assert not folder.metrics.exists()
    (aside,) = folder.root.parent.glob("run-before-*")
    assert (aside / "metrics.jsonl").read_text() == "precious"


def test_a_damaged_description_is_named(folder: RunFolder) -> None:
    folder.root.mkdir()
    folder.config.write_text("{")
    with pytest.raises(InputError, match=r"config\.json: is damaged; start over with --fresh$"):
        open_folder(folder, job()).__enter__()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run: cannot be written: Not a directory$"):
        open_folder(RunFolder(tmp_path / "file" / "run"), job()).__enter__()


def test_an_old_request_to_stop_is_forgotten(folder: RunFolder) -> None:
    folder.root.mkdir()
    folder.stop_request.touch()
    with open_folder(folder, job()):
        assert not folder.stop_request.exists()


def test_the_result_is_read_as_it_was_written(folder: RunFolder) -> None:
    folder.root.mkdir()
    assert read_result(folder.result) is None
    write_result(folder, Outcome(reason="Succeeded", step=3))
    assert read_result(folder.result) == Outcome(reason="Succeeded", step=3)
    folder.result.write_text("{")
    assert read_result(folder.result) is None


def refuse_once(folder: RunFolder) -> None:
    """A run that ends before its first step."""
    with open_folder(folder, job("wrong.jsonl")):
        folder.tokenizer.mkdir()
        (folder.tokenizer / "tokenizer.json").touch()
        outcome = Outcome(reason="InvalidInput", message="does not exist", attempt=1)
        end_attempt(folder, [], outcome, Overrides())


def test_a_file_that_was_corrected_just_runs(tmp_path: Path) -> None:
    """What was made of the wrong one, such as a tokenizer, is not gone on with."""
    folder = RunFolder(tmp_path)
    refuse_once(folder)
    with open_folder(folder, job("right.jsonl")):
        assert not folder.tokenizer.exists()
        assert (read_result(folder.result), read_attempts(folder)) == (None, [])


@pytest.mark.parametrize("name", ["checkpoints", "metrics", "model", "trials", "evaluation"])
def test_a_run_that_has_begun_is_kept(name: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    refuse_once(folder)
    work: Path = getattr(folder, name)
    work.touch()
    refused = pytest.raises(InputError, match=r"holds a run of another job: spec\.dataset\.train\.source differ; start")
    with refused, open_folder(folder, job("right.jsonl")):
        pass
    assert work.exists()
