"""The pull to the starting weights: exactly its gradient, whoever computes it, and after a resume too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from tests.model.conftest import Run, Trained, back_to
from tests.model.jobs import SAVE_EVERY, STEPS, job_of
from tests.model.processes import train
from tunesmith.training.pull import L2Pull, copy_of_trained

PULL: dict[str, Any] = {"full": {"l2Pull": 0.5}}


def test_it_is_the_gradient_of_half_the_squared_distance() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    start = copy_of_trained(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model(torch.randn(7, 5)).square().sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    figures = L2Pull(0.3, model, start).add_gradient(scale=8.0)
    added = {name: p.grad - before[name] for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    distance = sum((p - start[name]).square().sum() for name, p in model.named_parameters())
    assert isinstance(distance, torch.Tensor)
    (8.0 * 0.3 / 2 * distance).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(added[name], parameter.grad)
    assert figures == {"l2_distance": pytest.approx(float(distance.detach().sqrt()))}


def test_shards_are_pulled_too(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        whole = torch.arange(12.0).reshape(4, 3)
        model = torch.nn.Linear(3, 4, bias=False)
        model.weight = torch.nn.Parameter(distribute_tensor(whole + 2, mesh, [Shard(0)]))
        model.weight.grad = distribute_tensor(torch.zeros(4, 3), mesh, [Shard(0)])
        figures = L2Pull(0.5, model, {"weight": whole}).add_gradient(1.0)
        assert isinstance(model.weight.grad, DTensor)
        assert torch.equal(model.weight.grad.full_tensor(), torch.ones(4, 3))
        assert figures["l2_distance"] == pytest.approx(48**0.5)
    finally:
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="session")
def pulled(trained: Trained, base: Path) -> Run:
    return trained(base=base, method=PULL)


def test_it_holds_the_weights_back(pulled: Run, trained: Trained, base: Path) -> None:
    free = trained(base=base, method={"full": {"l2Pull": 1e-12}})
    distances = pulled.column("l2_distance")
    assert len(distances) == STEPS
    assert distances[0] == 0
    assert 0 < distances[-1] < 0.9 * free.column("l2_distance")[-1]
    assert "l2_distance" not in trained().folder.metrics.read_text(), "without a pull nothing is measured"


@pytest.mark.parametrize("changes", [{"workers": 2}, {"microBatchSize": 2}], ids=["two workers", "small micro-batches"])
def test_the_cut_does_not_matter(changes: dict[str, Any], pulled: Run, trained: Trained, base: Path) -> None:
    run = trained(base=base, method=PULL, **changes)
    for column in ("loss", "l2_distance", "gradient_norm"):
        assert run.column(column) == pytest.approx(pulled.column(column), rel=1e-5), column


def test_after_a_resume_it_pulls_to_where_the_run_started(pulled: Run, base: Path, rows: Path, tmp_path: Path) -> None:
    run = back_to(SAVE_EVERY, pulled, tmp_path / "run")
    (outcome,) = train(job_of(rows, base=base, method=PULL), run.folder)
    assert outcome.reason == "Succeeded"
    for column in ("loss", "l2_distance", "gradient_norm"):
        assert run.column(column) == pulled.column(column), column
