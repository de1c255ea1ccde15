"""A checkpoint is whole: a run that goes on from one, on whatever workers, has the losses of one that never stopped."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.model.conftest import Run, Trained, back_to
from tests.model.jobs import SAVE_EVERY, STEPS, job_of
from tests.model.plants import script_validation, watch_strategy
from tests.model.processes import train
from tunesmith.api.pod import RunFolder
from tunesmith.training.checkpoint import all_checkpoints


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"workers": 2}, {"workers": 1}),
        ({"workers": 2}, {"workers": 4}),
        ({"workers": 1}, {"workers": 2, "zero": 3}),
        ({"workers": 2, "zero": 3}, {"workers": 2, "zero": 2}),
        ({"workers": 2, "zero": 2}, {"workers": 1}),
        ({"workers": 2, "zero": 1}, {"workers": 4, "zero": 3}),
    ],
    ids=lambda placement: " ".join(f"{name}={value}" for name, value in placement.items()),
)
def test_other_workers_go_on(
    before: dict[str, Any], after: dict[str, Any], trained: Trained, reference: Run, rows: Path, tmp_path: Path
) -> None:
    run = back_to(SAVE_EVERY, trained(**before), tmp_path / "run")
    earlier = run.losses()[:SAVE_EVERY]
    zero = {"deepspeed": {"zeroStage": after["zero"]}} if "zero" in after else {}
    job = job_of(rows, scaling={"workers": after["workers"]} | zero)
    outcomes = train(job, run.folder, after["workers"], watch_strategy)
    assert {outcome.reason for outcome in outcomes} == {"Succeeded"}
    assert run.losses()[:SAVE_EVERY] == earlier, "what was done is not done again"
    assert len(run.losses()) == STEPS
    assert run.losses() == pytest.approx(reference.losses(), rel=1e-5)
    assert run.column("validation/loss") == pytest.approx(reference.column("validation/loss"), rel=1e-5)
    mine, theirs = (load_file(r.folder.model / "model.safetensors") for r in (run, reference))
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_same_worker_repeats_itself_exactly(reference: Run, rows: Path, tmp_path: Path) -> None:
    run = back_to(2 * SAVE_EVERY, reference, tmp_path / "run")
    train(job_of(rows), run.folder)
    for column in ("loss", "gradient_norm", "learning_rate", "validation/loss"):
        assert run.column(column) == reference.column(column)
    mine, theirs = (r.folder.model / "model.safetensors" for r in (run, reference))
    assert mine.read_bytes() == theirs.read_bytes()


def test_a_faster_way_to_the_same_result_may_be_taken_half_way(reference: Run, rows: Path, tmp_path: Path) -> None:
    run = back_to(SAVE_EVERY, reference, tmp_path / "run")
    (outcome,) = train(job_of(rows, packing=False, microBatchSize=3, gradientCheckpointing=True), run.folder)
    assert outcome.reason == "Succeeded"
    assert run.losses() == pytest.approx(reference.losses(), rel=1e-5)


def test_the_best_model_is_kept_and_exported(rows: Path, tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path / "run"))
    job = job_of(rows, checkpoint={"everySteps": 2, "keep": 1})
    train(job, run.folder, plant=partial(script_validation, [3.0, 2.0, 2.5, 2.2, 2.1, 2.0]))
    assert run.column("validation/loss") == [3.0, 2.0, 2.5, 2.2, 2.1, 2.0]
    assert [checkpoint.name for checkpoint in all_checkpoints(run.folder)] == ["step-00000004", "step-00000012"]
    best, last = (load_file(checkpoint / "weights.safetensors") for checkpoint in all_checkpoints(run.folder))
    model = load_file(run.folder.model / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(model[name], best[name])
    assert not torch.equal(model[name], last[name])


def test_a_run_that_no_longer_improves_ends_early(rows: Path, tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path / "run"))
    job = job_of(rows, checkpoint={"everySteps": 2, "keep": 1}, earlyStopping={"patience": 2})
    (outcome,) = train(job, run.folder, plant=partial(script_validation, [3.0, 2.0, 2.5, 2.2, 2.1, 1.0]))
    assert (outcome.reason, outcome.step) == ("Succeeded", 8)
    assert len(run.losses()) == 8
