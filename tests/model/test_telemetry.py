"""What real runs tell of themselves."""

import json
import socket
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from tests.model.conftest import Run, Trained
from tests.model.jobs import SAVE_EVERY, job_of
from tests.model.plants import full_disk_after, nan_in_step
from tests.model.processes import context
from tunesmith.api.job import FineTuneJob
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.training.clock import StepClock

SUPERVISED = {"data", "forward", "backward", "optimizer", "validation", "checkpoint", "other"}


def assert_time_is_all_there(run: Run, phases: set[str]) -> None:
    """The phases of a run's lines are its time, from its first line to its last one."""
    records = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    spent = [{k.removeprefix("time/"): v for k, v in each.items() if k.startswith("time/")} for each in records]
    assert set().union(*spent) == phases
    ends = [record["time"] + each.get("validation", 0) for record, each in zip(records, spent, strict=True)]
    assert sum(sum(each.values()) for each in spent[1:]) == pytest.approx(ends[-1] - ends[0], abs=0.1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_runs_time_is_divided_among_phases(workers: int, trained: Trained) -> None:
    run = trained(workers=workers)
    assert_time_is_all_there(run, SUPERVISED)
    records = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    assert all(record["time/forward"] > 0 and record["time/backward"] > 0 for record in records)
    with_checkpoint = {record["step"] for record in records if "time/checkpoint" in record}
    assert with_checkpoint == {SAVE_EVERY + 1, 2 * SAVE_EVERY + 1}, "the line after it tells"


@pytest.mark.parametrize("workers", [1, 2])
def test_utilisation_is_a_share_of_what_the_workers_reach(workers: int, trained: Trained) -> None:
    shares = trained(workers=workers).column("model_flop_utilization")
    assert len(shares) == len(trained(workers=workers).losses())
    assert all(0 < share < 1 for share in shares)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_time_is_told_by_what_was_queued_and_without_waiting() -> None:
    device = torch.device("cuda")
    clock, square = StepClock(device), torch.ones(8192, 8192, device=device)
    torch.mm(square, square)
    torch.cuda.synchronize()
    clock.lap()
    started = time.perf_counter()
    with clock.phase("forward"):
        for _ in range(40):
            torch.mm(square, square)
    early = clock.lap()
    queued = time.perf_counter() - started
    torch.cuda.synchronize()
    whole = time.perf_counter() - started
    assert "forward" not in early
    assert queued < whole / 4
    assert clock.lap()["forward"] == pytest.approx(whole, rel=0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _spoil_and_fill() -> None:
    nan_in_step(step=2, times=1)
    full_disk_after(1)


def _scraped(job: FineTuneJob, folder: Path, port: int) -> tuple[Outcome, str]:
    """How a run ended that meets a loss which is not finite, then a full disk; and what it served last."""
    from tunesmith.launch.folder import open_folder
    from tunesmith.sources import Resolver
    from tunesmith.training.assignment import Assignment
    from tunesmith.training.worker import run_worker

    _spoil_and_fill()
    with open_folder(RunFolder(folder), job):
        outcome = run_worker(Assignment(job, RunFolder(folder), Resolver(), metrics_port=port))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return outcome, answer.read().decode()


def test_what_went_wrong_is_counted(rows: Path, tmp_path: Path) -> None:
    job = job_of(rows, skipNonFiniteSteps=1)
    with ProcessPoolExecutor(1, mp_context=context()) as pool:
        outcome, text = pool.submit(_scraped, job, tmp_path / "sums", free_port()).result(120)
    assert outcome.reason == "StorageFull"
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {sample.name.removeprefix("tunesmith_training_"): sample.value for sample in samples if not sample.labels}
    names = ("steps_total", "skipped_steps_total", "checkpoints_total", "checkpoint_failures_total")
    assert [values[name] for name in names] == [2 * SAVE_EVERY, 1, 1, 1]
    assert values["checkpoint_bytes"] > 26_912 * 4 * 3, "weights and two moments in fp32"
    assert values["last_checkpoint_timestamp_seconds"] < values["last_step_timestamp_seconds"]
    assert values["model_flops_total"] > 0
    phases = {sample.labels["phase"]: sample.value for sample in samples if "phase" in sample.labels}
    assert set(phases) == SUPERVISED
