"""What goes wrong in a run ends with a named reason, a remedy and an exit code, and nothing is lost."""

import contextlib
import fcntl
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.model.conftest import Run
from tests.model.jobs import STEPS, body_of, write_rows
from tests.model.plants import full_disk_after, memory_for, nan_gradient_in_step, nan_in_step, signal_in_step
from tests.model.processes import Ended, Plant, tunesmith
from tunesmith.api.pod import RunFolder
from tunesmith.data.plan import EpochPlan
from tunesmith.launch.folder import read_attempts
from tunesmith.training.checkpoint import all_checkpoints, newest_intact


class Desk:
    """A user's folder, with a job file in it."""

    def __init__(self, folder: Path, rows: Path) -> None:
        self.folder, self.rows = folder, rows
        self.run = Run(RunFolder(folder / "runs" / "sums"))

    def write(self, **changes: Any) -> None:
        (self.folder / "job.yaml").write_text(yaml.safe_dump(body_of(self.rows, **changes)))

    def start(self, *arguments: str, plant: Plant | None = None) -> Ended:
        ended = tunesmith("run", "-f", "job.yaml", *arguments, folder=self.folder, plant=plant)
        assert "Traceback" not in ended.errors + ended.output
        return ended

    def checkpoints(self) -> list[str]:
        return [checkpoint.name for checkpoint in all_checkpoints(self.run.folder)]


@pytest.fixture
def desk(tmp_path: Path, rows: Path) -> Desk:
    desk = Desk(tmp_path, rows)
    desk.write()
    return desk


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing_else(desk: Desk, reference: Run) -> None:
    desk.write(packing=False)
    ended = desk.start(plant=partial(memory_for, 60))
    assert ended.code == 0
    said = " ".join(ended.output.split())
    assert "OutOfMemory: out of memory: lower training.microBatchSize" in said
    assert "attempt 2: microBatchSize 8 -> 4" in said
    assert desk.run.losses() == pytest.approx(reference.losses(), rel=1e-5)
    last = json.loads(desk.run.folder.result.read_text())["attempt"]
    told = read_attempts(desk.run.folder)
    assert [each.number for each in told] == list(range(1, last + 1))
    assert {each.reason for each in told[:-1]} == {"OutOfMemory"} and told[-1].reason == "Succeeded"
    assert told[1].overrides.micro_batch_size == 4
    assert "<span>micro-batch 4</span>" in desk.run.folder.report.read_text()


def test_out_of_memory_for_a_single_row(desk: Desk) -> None:
    desk.write(packing=False)
    ended = desk.start(plant=partial(memory_for, 2))
    assert ended.code == 1
    assert ended.errors == (
        "sums: OutOfMemory: out of memory: lower training.microBatchSize, or set training.gradientCheckpointing\n"
    )


def test_a_loss_that_is_no_number_is_tried_once_more_with_a_lower_rate(desk: Desk, reference: Run) -> None:
    ended = desk.start(plant=partial(nan_in_step, 7, 1))
    assert ended.code == 0
    said = " ".join(ended.output.split())
    assert "LossDiverged: step 7: the loss is nan" in said
    assert "attempt 2: learningRate halved, from the last good checkpoint" in said
    rates, before = desk.run.column("learning_rate"), reference.column("learning_rate")
    assert rates == pytest.approx([*before[:4], *(rate / 2 for rate in before[4:])])
    assert desk.run.losses()[:5] == pytest.approx(reference.losses()[:5], rel=1e-5)
    assert len(desk.run.losses()) == STEPS


def test_a_loss_that_stays_no_number_ends_the_run(desk: Desk) -> None:
    ended = desk.start(plant=partial(nan_in_step, 7, 2))
    assert ended.code == 1
    (line,) = ended.errors.splitlines()
    assert line.startswith("sums: LossDiverged: step 7: the loss is nan, the gradient norm nan (rows ")
    assert line.endswith("lower training.learningRate or training.maxGradNorm, or look at these rows")
    assert desk.checkpoints() == ["step-00000004"]


def test_a_gradient_that_turns_to_no_number_ends_the_run_before_it_spoils_the_weights(desk: Desk) -> None:
    desk.write(epochs=6)
    ended = desk.start(plant=partial(nan_gradient_in_step, 30, 2))
    assert ended.code == 1
    (line,) = ended.errors.splitlines()
    rows = ", ".join(map(str, EpochPlan((81,), (1.0,), 16, 0, 3 * STEPS).step(29)))
    assert re.fullmatch(
        rf"sums: LossDiverged: step 30: the loss is [\d.]+, the gradient norm nan \(rows {rows}\); "
        "lower training.learningRate or training.maxGradNorm, or look at these rows",
        line,
    ), line
    assert desk.checkpoints()[-1] == "step-00000028"
    intact = newest_intact(desk.run.folder)
    assert intact is not None
    weights = load_file(intact / "weights.safetensors").values()
    assert all(torch.isfinite(weight).all() for weight in weights)
    assert desk.start().code == 0
    assert len(desk.run.losses()) == 3 * STEPS


def test_the_checkpoint_before_a_damaged_one_is_used(desk: Desk, reference: Run) -> None:
    desk.start(plant=partial(signal_in_step, 10, signal.SIGKILL))
    damaged = desk.run.folder.checkpoints / "step-00000008" / "optimizer.exp_avg.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    ended = desk.start()
    assert ended.code == 0
    said = "step-00000008/optimizer.exp_avg.safetensors is not what was written; going on from the checkpoint before it"
    assert said in " ".join((ended.output + ended.errors).split()), "on the terminal"
    assert said in (desk.run.folder.logs / "worker-0.log").read_text()
    assert desk.run.losses() == reference.losses()


def test_a_full_disk_leaves_the_last_checkpoint(desk: Desk, reference: Run) -> None:
    ended = desk.start(plant=partial(full_disk_after, 1))
    assert ended.code == 1
    assert ended.errors == (
        "sums: StorageFull: no space is left for the run's folder, its last checkpoint is intact: free some space\n"
    )
    intact = newest_intact(desk.run.folder)
    assert intact is not None
    assert sorted(path.name for path in desk.run.folder.checkpoints.iterdir()) == [intact.name] == ["step-00000004"]
    assert desk.start().code == 0
    assert desk.run.losses() == reference.losses()


def test_a_folder_in_use_is_left_alone(desk: Desk) -> None:
    desk.run.folder.root.mkdir(parents=True)
    with desk.run.folder.lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        ended = desk.start()
    assert ended.code == 2
    assert ended.errors == "runs/sums: is in use by another run; wait for it, or choose another --output\n"
    assert [path.name for path in desk.run.folder.root.iterdir()] == [".lock"]


def test_a_run_of_another_job_is_not_gone_on_with(desk: Desk) -> None:
    desk.start(plant=partial(signal_in_step, 6, signal.SIGKILL))
    desk.write(learningRate=1e-4, maxLength=40, logEverySteps=2)
    ended = desk.start()
    assert ended.code == 2
    assert ended.errors == (
        "runs/sums: holds a run of another job: spec.training.learningRate, spec.training.maxLength differ; "
        "start over with --fresh, or choose another --output\n"
    )
    assert desk.checkpoints() == ["step-00000004"]

    assert desk.start("--fresh").code == 0
    (aside,) = desk.folder.glob("runs/sums-before-*")
    assert (aside / "checkpoints" / "step-00000004").is_dir()
    assert len((aside / "metrics.jsonl").read_text().splitlines()) == 5
    assert desk.run.column("step")[-1] == STEPS


def test_data_that_has_changed_since_is_refused(desk: Desk, tmp_path: Path) -> None:
    desk.rows = tmp_path / "rows.jsonl"
    write_rows(desk.rows)
    desk.write()
    desk.start(plant=partial(signal_in_step, 6, signal.SIGKILL))
    write_rows(desk.rows, seed=1)
    ended = desk.start()
    assert ended.code == 2
    assert ended.errors == (
        "sums: InvalidInput: spec.dataset.train: the training data is not what this run started with: put it back, "
        "or start over with --fresh\n"
    )
    assert desk.checkpoints() == ["step-00000004"]


def test_a_broken_line_of_the_data_is_named(desk: Desk, tmp_path: Path) -> None:
    lines = desk.rows.read_text().splitlines()
    lines[16] = lines[16][:-5]
    desk.rows = tmp_path / "broken.jsonl"
    desk.rows.write_text("\n".join(lines))
    desk.write()
    ended = desk.start()
    assert ended.code == 2
    assert ended.errors.startswith(f"sums: InvalidInput: {desk.rows}:17: spec.dataset.train.source: is broken JSON: ")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("*", "holds no config.json: it is not a model in the format of transformers"),
        ("*.safetensors", "holds no weights: *.safetensors is missing (other formats are not read)"),
        ("tokenizer*", "its tokenizer cannot be loaded: "),
    ],
)
def test_a_folder_that_is_no_whole_model(missing: str, message: str, desk: Desk, reference: Run) -> None:
    model = desk.folder / "model"
    model.mkdir()
    for file in reference.folder.model.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    for file in model.glob(missing):
        file.unlink()
    desk.write(base=Path("model"), lora={})
    ended = desk.start()
    assert ended.code == 2
    (line,) = ended.errors.splitlines()
    assert line.startswith("sums: InvalidInput: spec.model.source: ")
    assert message in line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for the first checkpoint and not for the second."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting a file system needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, desk: Desk) -> None:
    ended = desk.start("--output", "disk/sums")
    folder = RunFolder(small_disk / "sums")
    assert ended.code == 1, ended.errors
    assert "sums: StorageFull: no space is left for the run's folder" in ended.errors
    intact = newest_intact(folder)
    assert intact is not None
    assert intact.name == "step-00000004"

    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    assert desk.start("--output", "disk/sums").code == 0
    assert Run(folder).column("step")[-1] == STEPS


def test_a_disk_that_is_full_from_the_start(small_disk: Path, desk: Desk) -> None:
    filler = small_disk / "filler"
    with contextlib.suppress(OSError):
        filler.write_bytes(b"x" * 1024 * 1024)
    ended = desk.start("--output", "disk/sums")
    assert ended.code == 2
    assert ended.errors == "disk/sums/config.json: cannot be written: No space left on device\n"
