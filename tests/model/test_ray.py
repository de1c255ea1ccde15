"""Two workers, started by the real Ray; one of them is lost on the way, or fails."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import ray
import torch.distributed as dist
import yaml
from torch import Tensor

from tests.collector import Collector
from tests.model.conftest import Run
from tests.model.jobs import body_of, job_of
from tests.model.processes import train
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.api.spans import ENDPOINT_VARIABLE
from tunesmith.launch.folder import open_folder, read_result
from tunesmith.launch.workers import Placement, run_attempt
from tunesmith.sources import Resolver
from tunesmith.training.assignment import Assignment
from tunesmith.training.checkpoint import Position
from tunesmith.training.loop import Trainer

STEPS = 80
CHANGES: dict[str, Any] = {"epochs": None, "maxSteps": STEPS, "checkpoint": {"everySteps": 10, "keep": 2}}
PATIENCE_S = 280


def await_that(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def workers_of(driver: int) -> list[psutil.Process]:
    """The processes that compute; Ray names them after their actor."""
    return [child for child in psutil.Process(driver).children(recursive=True) if "RayTrainWorker" in child.name()]


@pytest.mark.timeout(900)
def test_a_worker_is_lost_and_the_run_goes_on_from_the_last_checkpoint(
    rows: Path, tmp_path: Path, collector: Collector
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body_of(rows, scaling={"workers": 2}, **CHANGES)))
    run = Run(RunFolder(tmp_path / "runs" / "sums"))
    command = [str(Path(sys.executable).with_name("tunesmith")), "run", "-f", "job.yaml"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    given = os.environ | {"COLUMNS": "120", ENDPOINT_VARIABLE: collector.endpoint}
    with subprocess.Popen(command, cwd=tmp_path, text=True, env=given, **pipes) as process:  # type: ignore[call-overload]
        await_that(lambda: run.folder.metrics.exists() and len(run.losses()) > 12, process)
        at_loss = len(run.losses())
        _, lost = workers_of(process.pid)
        lost.send_signal(signal.SIGKILL)
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert at_loss < STEPS, "it was lost on the way"

    outcome = read_result(run.folder.result)
    assert outcome is not None
    assert (outcome.reason, outcome.attempt) == ("Succeeded", 1), "Ray Train started it again, within the attempt"
    log = (run.folder.logs / "worker-0.log").read_text()
    (again,) = re.findall(r"goes on from step (\d+) of 80", log)
    assert int(again) >= 10

    assert run.column("step") == list(range(1, STEPS + 1))
    undisturbed = Run(RunFolder(tmp_path / "undisturbed"))
    train(job_of(rows, scaling={"workers": 2}, **CHANGES), undisturbed.folder, 2)
    assert run.losses() == pytest.approx(undisturbed.losses(), rel=1e-5)

    assert "to train on" in output
    assert f"{STEPS}/{STEPS}" in output
    assert "tokens/s" in output
    attempt, whole = collector.one("attempt"), collector.one("job")
    training = collector.named("training")[-1]
    assert attempt.parent == whole.id
    assert (training.trace, training.parent) == (whole.trace, attempt.id), "it came from a worker's process"
    assert training.attributes["tunesmith.first_step"] == int(again)
    assert errors == "", "nothing of what Ray and the libraries say to each other"


def second_fails(trainer: Trainer, position: Position) -> Outcome:
    """The second worker fails in a step, while the first waits for its gradients."""

    def fail(*arguments: Any) -> Tensor:
        raise RuntimeError("planted")

    changed = replace(trainer, objective=fail) if dist.get_rank() == 1 else trainer
    changed.run(position)
    raise AssertionError("unreachable: the first worker never gets these gradients")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # of Ray's own, about itself
def test_a_worker_that_fails_ends_the_others(rows: Path, tmp_path: Path) -> None:
    job, folder = job_of(rows, scaling={"workers": 2}), RunFolder(tmp_path / "run")
    try:
        with open_folder(folder, job):
            task = Assignment(job, folder, Resolver(), probe=second_fails)
            outcome = run_attempt(task, Placement(own_process=False))
    finally:
        ray.shutdown()
    assert (outcome.reason, outcome.message) == ("InternalError", "worker 1: RuntimeError: planted")
    assert outcome.log_tail is not None
    assert "in fail" in outcome.log_tail
    assert "strategy" in (folder.logs / "worker-0.log").read_text(), "the first had begun"


def test_a_run_on_this_machine_starts_a_ray_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other cluster is known here, and even if it answers no more."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    program = (
        "import ray; from tunesmith.launch.workers import join_ray; join_ray(None, 3); print(ray.nodes()[0]['Alive'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
