"""`tunesmith run` is stopped in the middle of a step, and run again."""

import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.model.conftest import Run
from tests.model.jobs import STEPS, body_of
from tests.model.plants import signal_in_step
from tests.model.processes import tunesmith
from tunesmith.api.pod import RunFolder
from tunesmith.launch.folder import read_attempts, read_result
from tunesmith.training.checkpoint import all_checkpoints

RUN = ("run", "-f", "job.yaml")


@pytest.fixture(scope="module")
def body(rows: Path, reference: Run) -> dict[str, Any]:
    """An adapter with dropout, so that random numbers matter too."""
    return body_of(rows, base=reference.folder.model, lora={"rank": 4, "dropout": 0.2})


def place(folder: Path, body: dict[str, Any]) -> Run:
    (folder / "job.yaml").write_text(yaml.safe_dump(body))
    return Run(RunFolder(folder / "runs" / "sums"))


@pytest.fixture(scope="module")
def uninterrupted(body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run = place(folder, body)
    ended = tunesmith(*RUN, folder=folder)
    assert ended.code == 0, ended.errors
    assert ended.errors == ""
    assert " to train on 81 " in " ".join(ended.output.split())
    assert f"model: {run.folder.model.relative_to(folder)}" in ended.output
    return run


def assert_same(run: Run, uninterrupted: Run) -> None:
    """To the last bit."""
    assert len(uninterrupted.losses()) == STEPS
    for column in ("step", "loss", "gradient_norm", "learning_rate", "validation/loss"):
        assert run.column(column) == uninterrupted.column(column), column
    name = "adapter_model.safetensors"
    assert (run.folder.model / name).read_bytes() == (uninterrupted.folder.model / name).read_bytes()


def test_killed_and_run_again(body: dict[str, Any], uninterrupted: Run, tmp_path: Path) -> None:
    run = place(tmp_path, body)
    killed = tunesmith(*RUN, folder=tmp_path, plant=partial(signal_in_step, 7, signal.SIGKILL))
    assert killed.code == -signal.SIGKILL
    assert run.column("step") == [1, 2, 3, 4, 5, 6]
    assert [checkpoint.name for checkpoint in all_checkpoints(run.folder)] == ["step-00000004"]
    assert not run.folder.model.exists()

    again = tunesmith(*RUN, folder=tmp_path)
    assert (again.code, again.errors) == (0, "")
    assert_same(run, uninterrupted)

    once_more = tunesmith(*RUN, folder=tmp_path)
    assert once_more.code == 0
    assert "has been trained already; --fresh starts over" in once_more.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_and_run_again(number: int, body: dict[str, Any], uninterrupted: Run, tmp_path: Path) -> None:
    run = place(tmp_path, body)
    stopped = tunesmith(*RUN, folder=tmp_path, plant=partial(signal_in_step, 6, number))
    assert stopped.code == 130
    assert stopped.errors == "sums: Interrupted: stopped on request after step 6; run again to go on from there\n"
    assert [checkpoint.name for checkpoint in all_checkpoints(run.folder)] == ["step-00000004", "step-00000006"]
    outcome = read_result(run.folder.result)
    assert outcome is not None
    assert outcome.reason == "Interrupted"

    again = tunesmith(*RUN, folder=tmp_path)
    assert (again.code, again.errors) == (0, "")
    assert_same(run, uninterrupted)
    assert [(each.number, each.reason) for each in read_attempts(run.folder)] == [(1, "Interrupted"), (2, "Succeeded")]


@pytest.mark.parametrize(
    "damage", ["a byte is another", "a file is cut off", "a file is gone", "the description is cut off"]
)
def test_a_damaged_checkpoint_is_passed_over_and_said(
    damage: str, body: dict[str, Any], uninterrupted: Run, tmp_path: Path
) -> None:
    run = place(tmp_path, body)
    tunesmith(*RUN, folder=tmp_path, plant=partial(signal_in_step, 9, signal.SIGKILL))
    newest = all_checkpoints(run.folder)[-1]
    assert newest.name == "step-00000008"
    file = newest / ("checkpoint.json" if damage.startswith("the description") else "optimizer.exp_avg.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    match damage:
        case "a byte is another":
            file.write_bytes(content)
        case "a file is gone":
            file.unlink()
        case _:
            file.write_bytes(content[: len(content) // 2])

    again = tunesmith(*RUN, folder=tmp_path)
    assert again.code == 0
    assert "going on from the checkpoint before it" in again.errors
    assert file.name in again.errors
    assert "Traceback" not in again.errors
    assert_same(run, uninterrupted)
