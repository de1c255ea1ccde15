"""Real runs that train until they are ended: supervised, of a reward model, and PPO."""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from tests.model.jobs import ROWS, job_of, write_rows
from tests.model.policies import policy_job
from tests.model.preferences import reward_job, write_pairs
from tests.model.processes import context, train
from tunesmith.api.job import FineTuneJob
from tunesmith.api.pod import RunFolder

from ..kube import eventually
from ..process import free_ports
from .serving import from_port

SUPERVISED, REWARD, PPO = "supervised", "reward", "ppo"
_ENDLESS = 1_000_000


@contextmanager
def running_trainings(
    folder: Path, steps: int = _ENDLESS, examples: int = ROWS, **training: Any
) -> Iterator[dict[str, int]]:
    """Runs one of each; gives the port of each one's metrics once all have finished a step.

    Args:
        folder: of their data and runs.
        steps: how many each makes.
        examples: how many rows there are to learn from.
        training: more of spec.training.
    """
    rows, pairs = folder / "rows.jsonl", folder / "pairs.jsonl"
    write_rows(rows, examples)
    write_pairs(pairs)
    base = RunFolder(folder / "base")
    outcomes = train(job_of(rows, epochs=None, maxSteps=12), base)
    assert [outcome.reason for outcome in outcomes] == ["Succeeded"], outcomes
    often = {"checkpoint": {"everySteps": 20, "keep": 2}, "epochs": None, "maxSteps": steps} | training
    jobs = {
        SUPERVISED: job_of(rows, **often),
        REWARD: reward_job(pairs, base.model, **often),
        PPO: policy_job(rows, base.model, method={"full": {}}, **often),
    }
    ports = dict(zip(jobs, free_ports(len(jobs)), strict=True))
    processes = [
        context().Process(target=_run, args=(job, folder / name, ports[name], os.getpid()), daemon=True)
        for name, job in jobs.items()
    ]
    try:
        for process in processes:
            process.start()
        eventually(lambda: all(_has_stepped(port) for port in ports.values()), "the first steps of all runs", 120)
        yield ports
    finally:
        for process in processes:
            process.kill()
            process.join()


def _has_stepped(port: int) -> bool:
    try:
        return bool(re.search(r"^tunesmith_training_steps_total [1-9]", from_port(port)("/metrics"), re.MULTILINE))
    except OSError:
        return False


def _run(job: FineTuneJob, folder: Path, port: int, user: int) -> None:
    from tunesmith.launch.folder import open_folder
    from tunesmith.sources import Resolver
    from tunesmith.training.assignment import Assignment
    from tunesmith.training.worker import run_worker

    Thread(target=_end_with, args=(user,), daemon=True).start()
    os.nice(5)  # the API server and the operator come first
    with open_folder(RunFolder(folder), job):
        outcome = run_worker(Assignment(job, RunFolder(folder), Resolver(), metrics_port=port))
    (folder / "ended.json").write_text(json.dumps(outcome.to_dict()))


def _end_with(process: int) -> None:
    """Ends this process once another is gone, however that happened: nobody else would."""
    while Path(f"/proc/{process}").exists():
        time.sleep(1)
    os._exit(1)
