"""How a step is computed does not change what is in it: the same losses however it is cut, spread out or sharded."""

from typing import Any

import pytest

from tests.model.conftest import Run, Trained
from tests.model.jobs import STEPS
from tunesmith.api.optimizer import Schedule
from tunesmith.training.schedule import rate_factor


def assert_same(run: Run, reference: Run) -> None:
    assert len(reference.losses()) == STEPS
    assert run.losses()[0] == pytest.approx(reference.losses()[0], rel=1e-6)
    for column in ("loss", "validation/loss", "gradient_norm"):
        assert run.column(column) == pytest.approx(reference.column(column), rel=1e-5), column
    assert run.column("learning_rate") == reference.column("learning_rate")


@pytest.mark.parametrize(
    "changes",
    [
        {"packing": False},
        {"microBatchSize": 1},
        {"microBatchSize": 2, "packing": False},
        {"gradientCheckpointing": True},
    ],
    ids=["padded", "one row at a time", "two padded rows at a time", "activations recomputed"],
)
def test_one_worker(changes: dict[str, Any], trained: Trained, reference: Run) -> None:
    run = trained(**changes)
    assert_same(run, reference)
    (facts,) = run.strategies()
    assert facts["forwards"] == (2 if "gradientCheckpointing" in changes else 1), "of a layer for each of the model"


@pytest.mark.parametrize("workers", [2, 4])
def test_workers(workers: int, trained: Trained, reference: Run) -> None:
    """The last step of an epoch has one row: all workers but one have none, and take part."""
    run = trained(workers=workers)
    assert_same(run, reference)
    assert len(run.strategies()) == workers
    for facts in run.strategies():
        assert (facts["model"], facts["world"], facts["workers"]) == ("DistributedDataParallel", workers, workers)
        assert facts["moments"] == facts["weights"] == facts["parameters"], "each worker holds everything"


@pytest.mark.parametrize(
    ("workers", "stage", "changes"),
    [(2, 1, {}), (2, 2, {}), (2, 3, {}), (4, 1, {}), (4, 3, {}), (2, 2, {"packing": False, "microBatchSize": 3})],
    ids=["two, 1", "two, 2", "two, 3", "four, 1", "four, 3", "two, 2, padded"],
)
def test_sharded(workers: int, stage: int, changes: dict[str, Any], trained: Trained, reference: Run) -> None:
    run = trained(workers=workers, zero=stage, **changes)
    assert_same(run, reference)
    assert len(run.strategies()) == workers
    for facts in run.strategies():
        assert (facts["model"], facts["stage"]) == ("DeepSpeedEngine", stage)
        assert (facts["world"], facts["workers"]) == (workers, workers)
        share, padding = facts["parameters"] / workers, 64
        assert share <= facts["moments"] <= share + padding
        assert (share <= facts["weights"] <= share + padding) == (stage == 3)


def test_padded_rows_on_two_workers(trained: Trained, reference: Run) -> None:
    assert_same(trained(workers=2, packing=False, microBatchSize=3), reference)


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 2},
        {"workers": 4, "packing": False},
        {"workers": 2, "scaling": {"fsdp": {}}},
        {"workers": 2, "zero": 1},
        {"workers": 2, "zero": 2, "packing": False},
        {"workers": 2, "zero": 3},
        {"workers": 2, "scaling": {"tensorParallel": 2}},
    ],
    ids=[
        "two",
        "four, padded",
        "two, FSDP2",
        "two, ZeRO-1",
        "two, ZeRO-2, padded",
        "two, ZeRO-3",
        "two, tensor parallel",
    ],
)
def test_fifty_steps(changes: dict[str, Any], trained: Trained) -> None:
    long = {"epochs": None, "maxSteps": 50, "learningRate": 3e-4}
    losses = trained(**long).losses()
    assert len(losses) == 50
    run = trained(**long | changes)
    assert run.losses()[0] == pytest.approx(losses[0], rel=1e-6)
    assert run.losses() == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"workers": 2, "scaling": {"fsdp": {}}},
        {"workers": 2, "zero": 2},
        {"workers": 2, "scaling": {"tensorParallel": 2}},
    ],
    ids=["one", "two, FSDP2", "two, ZeRO-2", "two, tensor parallel"],
)
def test_bf16_is_close(changes: dict[str, Any], trained: Trained, reference: Run) -> None:
    """bf16 keeps 8 bits of a product's mantissa: relative errors of 2^-9, together well below 1% of the loss."""
    run = trained(precision="bf16", **changes)
    assert run.losses() == pytest.approx(reference.losses(), rel=1e-2)
    assert run.losses() != pytest.approx(reference.losses(), rel=1e-6), "it is on"


def test_the_rate_is_that_of_the_schedule(reference: Run) -> None:
    rates = [2e-3 * rate_factor(Schedule(), step, STEPS) for step in range(STEPS)]
    assert max(rates) > 10 * min(rates), "a schedule that is seen"
    assert reference.column("learning_rate") == pytest.approx(rates, rel=1e-12)
    (facts,) = reference.strategies()
    assert facts["rates"] == [pytest.approx(rates[-1], rel=1e-12)], "the optimizer's own, at the end"


def test_it_learns(reference: Run) -> None:
    assert reference.column("validation/loss") == sorted(reference.column("validation/loss"), reverse=True)
    assert reference.losses()[-1] < 0.9 * reference.losses()[0]
