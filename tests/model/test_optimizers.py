"""Every optimizer learns, goes on exactly where it stood, and holds what it says."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.model.conftest import Run, Trained, back_to
from tests.model.jobs import SAVE_EVERY, STEPS, job_of
from tests.model.plants import nan_gradient_in_step, nan_in_step, nan_in_steps
from tests.model.processes import Plant, train
from tunesmith.api.pod import RunFolder
from tunesmith.training.checkpoint import all_checkpoints, read_state

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": {"muon": {}}},
    "adafactor": {"optimizer": {"adafactor": {}}},
    "sgd": {"optimizer": {"sgd": {"momentum": 0.9, "nesterov": True}}, "learningRate": 0.1},
    "8-bit adamw": {"optimizer": {"adamw": {"bits": 8}}},
    "averaged adamw": {"average": {"decay": 0.8}, "layerDecay": 0.9, "maxGradValue": 0.5},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns_and_goes_on_exactly(name: str, trained: Trained, rows: Path, tmp_path: Path) -> None:
    run = trained(**OPTIMIZERS[name])
    validation = run.column("validation/loss")
    assert validation == sorted(validation, reverse=True)
    assert run.losses()[-1] < 0.9 * run.losses()[0]

    again = back_to(SAVE_EVERY, run, tmp_path / "run")
    (outcome,) = train(job_of(rows, **OPTIMIZERS[name]), again.folder)
    assert outcome.reason == "Succeeded"
    for column in ("loss", "gradient_norm", "validation/loss"):
        assert again.column(column) == run.column(column), column
    mine, theirs = (r.folder.model / "model.safetensors" for r in (again, run))
    assert mine.read_bytes() == theirs.read_bytes()


def state_of(run: Run) -> dict[str, dict[str, torch.Tensor]]:
    return read_state(all_checkpoints(run.folder)[-1])


def test_8_bit_moments_have_8_bits(trained: Trained) -> None:
    state = state_of(trained(**OPTIMIZERS["8-bit adamw"]))
    large = {name for name, weight in state["weights"].items() if weight.numel() >= 4096}
    assert large == {"model.embed_tokens.weight"}
    for moment in ("optimizer.state1", "optimizer.state2"):
        assert {name for name, t in state[moment].items() if t.dtype == torch.uint8} == large, "as in the paper"
        assert all(len(set(state[moment][name].flatten().tolist())) > 16 for name in large)


def test_muon_takes_the_matrices_within_the_layers(trained: Trained) -> None:
    state = state_of(trained(**OPTIMIZERS["muon"]))
    matrices = {name for name, weight in state["weights"].items() if weight.ndim == 2 and ".layers." in name}
    assert state["optimizer.momentum_buffer"].keys() == matrices
    assert state["optimizer.exp_avg"].keys() == state["weights"].keys() - matrices


def test_adafactor_keeps_rows_and_columns(trained: Trained) -> None:
    state = state_of(trained(**OPTIMIZERS["adafactor"]))
    name = "model.layers.0.mlp.up_proj.weight"
    rows, columns = state["weights"][name].shape
    assert state["optimizer.exp_avg_sq_row"][name].shape == (rows,)
    assert state["optimizer.exp_avg_sq_col"][name].shape == (columns,)
    assert "optimizer.exp_avg" not in state


def test_the_average_is_what_is_validated_and_exported(rows: Path, tmp_path: Path, trained: Trained) -> None:
    training: dict[str, Any] = {"checkpoint": {"everySteps": 1, "keep": STEPS}}
    run = trained(average={"decay": 0.8}, **training)
    plain = trained(**training)
    weights = [read_state(checkpoint)["weights"] for checkpoint in all_checkpoints(plain.folder)]
    expected = {name: torch.zeros_like(weight) for name, weight in weights[0].items()}
    for step, values in enumerate(weights, 1):
        share = max(0.2, 1 / step)
        expected = {name: (1 - share) * expected[name] + share * values[name] for name in expected}
    exported = load_file(run.folder.model / "model.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(exported[name], tensor, rtol=1e-4, atol=1e-6)
    assert run.losses() == plain.losses(), "training itself does not see it"
    assert run.column("validation/loss")[0] == pytest.approx(plain.column("validation/loss")[0], rel=1e-6)
    assert run.column("validation/loss")[-1] > 1.001 * plain.column("validation/loss")[-1], "it lags behind"


def test_each_element_of_a_gradient_is_clipped(trained: Trained, reference: Run) -> None:
    limit = 1e-3
    run = trained(maxGradValue=limit)
    largest = limit * run.strategies()[0]["parameters"] ** 0.5
    assert max(run.column("gradient_norm")) <= largest < min(reference.column("gradient_norm"))


def test_sharded_averages_and_sgd(trained: Trained) -> None:
    """What the optimizer and the average hold is cut with the weights, and whole in a checkpoint."""
    sgd = OPTIMIZERS["sgd"] | {"average": {"decay": 0.8}}
    one = trained(**sgd)
    sharded = trained(workers=2, scaling={"fsdp": {}}, **sgd)
    assert sharded.losses() == pytest.approx(one.losses(), rel=1e-5)
    assert sharded.column("validation/loss") == pytest.approx(one.column("validation/loss"), rel=1e-5)
    zero = trained(workers=2, zero=2, **OPTIMIZERS["sgd"])
    assert zero.losses() == pytest.approx(one.losses(), rel=1e-5)
    for name, momentum in state_of(one)["optimizer.momentum_buffer"].items():
        for other in (sharded, zero):
            found = state_of(other)["optimizer.momentum_buffer"][name]
            torch.testing.assert_close(found, momentum, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("plant", "loss"),
    [(partial(nan_in_step, 7, 1), "nan"), (partial(nan_gradient_in_step, 7, 1), r"\d[.]\d+")],
    ids=["loss", "gradient alone"],
)
def test_a_step_that_is_no_number_is_left_out(plant: Plant, loss: str, rows: Path, tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path / "run"))
    outcomes = train(job_of(rows, skipNonFiniteSteps=1, scaling={"workers": 2}), run.folder, 2, plant)
    assert {outcome.reason for outcome in outcomes} == {"Succeeded"}
    records = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    assert [record["step"] for record in records if "loss" not in record] == [7]
    assert records[6]["skipped_steps"] == 1
    before, after = (
        read_state(path)["optimizer.step"]["model.norm.weight"] for path in all_checkpoints(run.folder)[:2]
    )
    assert (float(before), float(after)) == (4, 7), "of eight steps"
    log = (run.folder.logs / "worker-0.log").read_text()
    assert re.search(rf"step 7: the loss is {loss}, the gradient norm nan \(rows ", log)
    assert all(weight.isfinite().all() for weight in load_file(run.folder.model / "model.safetensors").values())


def test_more_than_may_be_left_out_ends_the_run(rows: Path, tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path / "run"))
    (outcome,) = train(job_of(rows, skipNonFiniteSteps=1), run.folder, plant=partial(nan_in_steps, 6, 7))
    assert outcome.reason == "LossDiverged"
    assert "step 7: the loss is nan" in outcome.message
    assert "1 such steps were left out before" in outcome.message
