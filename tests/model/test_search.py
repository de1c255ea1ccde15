"""`spec.search` through `tunesmith run`: killed and gone on with, a grid, and trials that are stopped early."""

import json
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.model.conftest import Run
from tests.model.jobs import body_of
from tests.model.processes import tunesmith
from tunesmith.api.job import FineTuneJob
from tunesmith.api.pod import RunFolder
from tunesmith.launch.folder import read_result
from tunesmith.launch.search import trial_resources
from tunesmith.launch.suggest import suggest
from tunesmith.launch.trials import read_trials, trial_folder
from tunesmith.launch.workers import Placement

RUN = ("run", "-f", "job.yaml")


def place(folder: Path, body: dict[str, Any], search: dict[str, Any] | None) -> RunFolder:
    spec = body["spec"] | ({"search": search} if search else {})
    (folder / "job.yaml").write_text(yaml.safe_dump(body | {"spec": spec}))
    return RunFolder(folder / "runs" / "sums")


def kill_in_trial(run: Path, number: int, step: int) -> None:
    """The command is killed once a trial has finished a step."""
    metrics = trial_folder(RunFolder(run), number).metrics

    def watch() -> None:
        while not metrics.exists() or len(metrics.read_text().splitlines()) < step:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def losses(folder: RunFolder) -> list[float]:
    return Run(folder).losses()


def times(folder: RunFolder) -> tuple[float, float]:
    """When the first and the last step ended, in seconds."""
    column = Run(folder).column("time")
    return column[0], column[-1]


def test_a_search_that_was_killed_goes_on_and_keeps_the_best_model(rows: Path, tmp_path: Path) -> None:
    body = body_of(rows)
    rate = {"field": "training.learningRate", "numbers": [2e-3, 1e-5, 1e-2]}
    run = place(tmp_path, body, {"parameters": [rate], "algorithm": "grid"})

    killed = tunesmith(*RUN, folder=tmp_path, plant=partial(kill_in_trial, run.root, 2, 5))
    assert killed.code == -signal.SIGKILL
    first, second = read_trials(run)
    assert (first.ended, second.ended) == ("Succeeded", None)
    before = trial_folder(run, 1).metrics.stat().st_mtime_ns
    assert not run.result.exists()

    again = tunesmith(*RUN, folder=tmp_path)
    assert again.code == 0, again.errors
    assert again.errors == ""
    assert "trial 1/3" not in again.output
    assert "trial 2/3: validation loss " in again.output
    assert trial_folder(run, 1).metrics.stat().st_mtime_ns == before, "a trial that has ended is not repeated"

    trials = read_trials(run)
    assert [trial.values["training.learningRate"] for trial in trials] == [2e-3, 1e-5, 1e-2]
    assert {trial.ended for trial in trials} == {"Succeeded"}
    best = min(trials, key=lambda trial: trial.loss or 9e9)
    outcome = read_result(run.result)
    assert outcome is not None
    assert outcome.reason == "Succeeded"
    assert outcome.message.startswith(f"trial {best.number} of 3 is the best: learningRate ")
    assert (run.model / "model.safetensors").exists()
    assert not trial_folder(run, best.number).model.exists(), "it was moved"
    assert run.trials_plot.stat().st_size > 10_000

    # the trial that was cut off is the run that it would have been by itself
    (tmp_path / "alone").mkdir()
    alone = place(tmp_path / "alone", body_of(rows, learningRate=1e-5), None)
    assert tunesmith(*RUN, folder=tmp_path / "alone").code == 0
    assert losses(trial_folder(run, 2)) == losses(alone)
    assert second.number == 2


def test_bad_trials_are_stopped_early_and_failed_ones_are_results(rows: Path, tmp_path: Path) -> None:
    body = body_of(rows)
    rate = {"field": "training.learningRate", "numbers": [2e-3, 1e-6, 1e-7, 100.0]}
    search = {"parameters": [rate], "algorithm": "grid", "asha": {"graceSteps": 4, "reductionFactor": 2}}
    run = place(tmp_path, body, search)
    ended = tunesmith(*RUN, folder=tmp_path)
    assert ended.code == 0, ended.errors
    good, low, lower, wild = read_trials(run)
    assert good.ended == "Succeeded"
    for trial in (low, lower):
        assert trial.ended == "Stopped"
        assert trial.steps == 4
        assert len(losses(trial_folder(run, trial.number))) == 5, "it stops right after its checkpoint"
    assert wild.ended in ("LossDiverged", "Stopped"), wild
    assert f"trial {low.number}/4" in ended.output
    assert json.loads((run.root / "config.json").read_text())["fields"]["search"]["algorithm"] == "grid"


def test_two_random_trials_run_at_once(rows: Path, tmp_path: Path) -> None:
    parameters = [
        {"field": "training.learningRate", "logUniform": {"low": 1e-4, "high": 1e-2}},
        {"field": "training.schedule.type", "strings": ["cosine", "constant"]},
    ]
    body = body_of(rows, epochs=50, checkpoint={"everySteps": 300})  # long beside the start of a process
    run = place(tmp_path, body, {"parameters": parameters, "algorithm": "random", "trials": 2, "concurrency": 2})
    ended = tunesmith(*RUN, folder=tmp_path)
    assert (ended.code, ended.errors) == (0, "")
    trials = read_trials(run)
    spec = FineTuneJob.model_validate(yaml.safe_load((tmp_path / "job.yaml").read_text())).spec
    assert [trial.values for trial in trials] == [suggest(spec, number, []) for number in (1, 2)]
    assert {trial.ended for trial in trials} == {"Succeeded"}
    (from_first, to_first), (from_second, to_second) = (times(trial_folder(run, number)) for number in (1, 2))
    assert from_first < to_second
    assert from_second < to_first


def test_a_bayesian_search_tries_where_trials_were_good(rows: Path, tmp_path: Path) -> None:
    parameters = [{"field": "training.learningRate", "logUniform": {"low": 1e-6, "high": 1e-2}}]
    body = body_of(rows, epochs=1)
    run = place(tmp_path, body, {"parameters": parameters, "algorithm": "bayesian", "trials": 12})
    ended = tunesmith(*RUN, folder=tmp_path)
    assert (ended.code, ended.errors) == (0, "")
    trials = read_trials(run)
    spec = FineTuneJob.model_validate(yaml.safe_load((tmp_path / "job.yaml").read_text())).spec
    for number in (11, 12):  # the first ten are random
        assert trials[number - 1].values == suggest(spec, number, trials[: number - 1])
        assert float(trials[number - 1].values["training.learningRate"]) > 1e-3, "where losses fall at all in six steps"


def test_when_all_trials_fail_the_search_says_so_once(rows: Path, tmp_path: Path) -> None:
    body = body_of(rows)
    body["spec"]["dataset"]["columns"] = {"prompt": "question"}
    rate = {"field": "training.learningRate", "numbers": [1e-3, 1e-4]}
    place(tmp_path, body, {"parameters": [rate], "algorithm": "grid"})
    ended = tunesmith(*RUN, folder=tmp_path)
    assert ended.code == 2
    assert "all 2 trials failed, 2 of them like trial 1: " in ended.errors
    assert "there is no column 'question'" in ended.errors
    assert "Traceback" not in ended.errors


def test_tune_takes_what_a_trial_with_workers_of_its_own_asks_for() -> None:
    """The CPUs are for the workers alone: on a cluster each takes a whole pod's."""
    from ray.tune.execution.placement_groups import resource_dict_to_pg_factory

    asked = resource_dict_to_pg_factory(trial_resources(Placement(own_process=False), threads=2))
    assert asked.required_resources.keys() == {"memory"}
