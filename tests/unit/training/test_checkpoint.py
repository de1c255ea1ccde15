"""Checkpoints on the disk: whole or not there, checked, rotated."""

import errno
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tunesmith.api.pod import RunFolder
from tunesmith.training import checkpoint
from tunesmith.training.checkpoint import DamagedCheckpointError, Position
from tunesmith.training.state import State


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def position(step: int, best: int | None = None) -> Position:
    return Position.model_validate({"step": step, "dataDigest": "0", "bestStep": best, "bestLoss": best and 1.0})


def state(value: float) -> State:
    return {
        part: {"layer.weight": torch.full((2, 3), value + n)}
        for n, part in enumerate(("weights", "optimizer.exp_avg", "optimizer.exp_avg_sq"))
    }


def save(folder: RunFolder, step: int, *, keep: int = 10, best: int | None = None) -> Path:
    return checkpoint.save(folder, position(step, best), state(step), keep)


def steps(folder: RunFolder) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in checkpoint.all_checkpoints(folder)]


def test_what_is_saved_is_read(folder: RunFolder) -> None:
    saved = save(folder, 5)
    assert checkpoint.read_position(saved) == position(5)
    read = checkpoint.read_state(saved)
    assert {part: tensors["layer.weight"][0, 0].item() for part, tensors in read.items()} == {
        "weights": 5,
        "optimizer.exp_avg": 6,
        "optimizer.exp_avg_sq": 7,
    }


def test_the_newest_stay_and_the_best(folder: RunFolder) -> None:
    for step in range(1, 8):
        save(folder, step, keep=2, best=min(step, 3))
    assert steps(folder) == [3, 6, 7]
    assert checkpoint.best_checkpoint(folder) == folder.checkpoints / "step-00000003"


def test_the_newest_is_the_best_where_nothing_was_validated(folder: RunFolder) -> None:
    for step in (1, 2, 3):
        save(folder, step, keep=2)
    assert steps(folder) == [2, 3]
    assert checkpoint.best_checkpoint(folder) == folder.checkpoints / "step-00000003"


def test_there_is_none_before_the_first(folder: RunFolder) -> None:
    assert checkpoint.newest_intact(folder) is None
    assert checkpoint.best_checkpoint(folder) is None


def test_a_checkpoint_that_is_made_again_replaces_the_first(folder: RunFolder) -> None:
    """As of a run that went back to an earlier one."""
    save(folder, 4)
    checkpoint.save(folder, position(4), state(40), keep=2)
    assert checkpoint.read_state(folder.checkpoints / "step-00000004")["weights"]["layer.weight"][0, 0] == 40


@pytest.mark.parametrize("file", ["weights", "optimizer.exp_avg", "optimizer.exp_avg_sq"])
def test_a_full_disk_leaves_what_was_there(file: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder, 1, keep=1)

    def fail(tensors: dict[str, Tensor], path: Path) -> None:
        if path.stem == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        safetensors.torch.save_file(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save(folder, 2, keep=1)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000001"]
    assert checkpoint.newest_intact(folder) == folder.checkpoints / "step-00000001"


def test_half_a_checkpoint_of_a_killed_run_is_none(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder, 1)

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", lambda *a, **k: None)  # type: ignore[attr-defined]  # nobody tidies up
        patch.setattr(checkpoint, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            save(folder, 2)
    assert len(list(folder.checkpoints.iterdir())) == 2
    assert steps(folder) == [1]
    save(folder, 2)
    assert [path.name for path in sorted(folder.checkpoints.iterdir())] == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("damaged", ["weights.safetensors", "optimizer.exp_avg_sq.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_a_damaged_one_is_passed_over(
    damaged: str, how: str, folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    save(folder, 1)
    file = save(folder, 2) / damaged
    content = file.read_bytes()
    match how:
        case "cut":
            file.write_bytes(content[:-10])
        case "changed":
            file.write_bytes(content[:-3] + b"???")
        case _:
            file.unlink()
    assert checkpoint.newest_intact(folder) == folder.checkpoints / "step-00000001"
    assert f"step-00000002/{damaged}" in caplog.text
    assert "going on from the checkpoint before it" in caplog.text


def test_reading_a_damaged_one_says_which_file(folder: RunFolder) -> None:
    saved = save(folder, 1)
    (saved / "optimizer.exp_avg.safetensors").write_bytes(b"")
    with pytest.raises(
        DamagedCheckpointError, match=r"^step-00000001/optimizer\.exp_avg\.safetensors is not what was written$"
    ):
        checkpoint.read_state(saved)
