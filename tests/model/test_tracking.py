"""Runs are shown in trackers: a real MLflow server, TensorBoard's own reader, and W&B's files."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2 as wandb_records

from tests.model.conftest import Run
from tests.model.jobs import STEPS, body_of, write_rows
from tests.model.plants import signal_in_step
from tests.model.processes import tunesmith
from tunesmith.api.pod import RunFolder
from tunesmith.launch.trials import Trial, trial_folder, write_trials
from tunesmith.tracking.sender import read_notes

RUN = ("run", "-f", "job.yaml")
REPEATED = ("loss", "learning_rate", "gradient_norm", "tokens")
"""Columns that are the same when a step is done again."""


class Server:
    """`mlflow server` with a database of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, "the server does not start"
            time.sleep(0.2)

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def run(self, folder: RunFolder) -> Any:
        return MlflowClient(self.uri).get_run(read_notes(folder)["mlflow"].id)

    def column(self, folder: RunFolder, name: str) -> dict[int, float]:
        """The points of a metric by step."""
        points = MlflowClient(self.uri).get_metric_history(read_notes(folder)["mlflow"].id, name)
        assert len({point.step for point in points}) == len(points), "a step stands once"
        return {point.step: point.value for point in sorted(points, key=lambda point: point.step)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("mlflow"))
    yield started
    started.stop()


def place(folder: Path, rows: Path, tracking: dict[str, Any], test: Path | None = None) -> Run:
    """A job with an environment that is nobody's business; it is evaluated where there are test rows."""
    body = body_of(rows)
    spec = body["spec"] | {"tracking": tracking}
    spec["runtime"] = {"env": [{"name": "HIDDEN", "value": "nobody's business"}]}
    if test is not None:
        spec["dataset"]["test"] = {"source": str(test)}
        spec["evaluation"] = {"metrics": ["perplexity"]}
    (folder / "job.yaml").write_text(yaml.safe_dump(body | {"spec": spec}))
    return Run(RunFolder(folder / "runs" / "sums"))


def wait_for(what: str, condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def killed_and_run_again(server: Server, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in all trackers that was killed in its seventh step, and gone on with from its fourth."""
    folder = tmp_path_factory.mktemp("tracked")
    tracking = {
        "mlflow": {"trackingUri": server.uri, "experiment": "arithmetic"},
        "tensorboard": {},
        "wandb": {"project": "arithmetic", "mode": "offline"},
    }
    write_rows(folder / "test.jsonl", 8, seed=1)
    run = place(folder, rows, tracking, folder / "test.jsonl")
    tunesmith(*RUN, folder=folder, plant=partial(signal_in_step, 7, signal.SIGKILL))
    wait_for("the killed run is told", lambda: read_status(run.folder) == {"KILLED"})
    assert server.run(run.folder).info.status == "KILLED"
    assert list(server.column(run.folder, "loss")) == [1, 2, 3, 4, 5, 6]
    first = server.run(run.folder).info.run_id

    again = tunesmith(*RUN, folder=folder)
    assert (again.code, again.errors) == (0, "")
    assert f"/runs/{first}" in again.output, "the same run goes on, and a person is told where"
    return run


def read_status(folder: RunFolder) -> set[str]:
    notes = read_notes(folder)
    return {note.status for note in notes.values()} if len(notes) == 3 else set()


def records_of(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]


def test_mlflow_has_every_figure_of_every_step_once(server: Server, killed_and_run_again: Run) -> None:
    run = killed_and_run_again
    records = records_of(run)
    columns = {name for record in records for name in record} - {"step", "time"}
    assert columns >= {*REPEATED, "validation/loss", "tokens_per_second", "peak_memory_bytes"}
    for name in columns:
        first = 0 if name in REPEATED else 6  # the sixth step was done again, and took another time
        ours = {record["step"]: record[name] for record in records if name in record and record["step"] > first}
        theirs = server.column(run.folder, name)
        assert {step: value for step, value in theirs.items() if step > first} == ours, name
    assert list(server.column(run.folder, "loss")) == list(range(1, len(records) + 1))


def test_mlflow_has_what_the_run_was_and_how_it_ended(server: Server, killed_and_run_again: Run) -> None:
    folder = killed_and_run_again.folder
    run, client = server.run(folder), MlflowClient(server.uri)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "arithmetic"
    assert run.data.params["training.batchSize"] == "16"
    assert run.data.params["objective.instruction.template"] == "{prompt} {response}"
    tags = {"job": "sums", "baseModel": "new llama", "attempt": "1", "outcome": "Succeeded"}
    assert {name: run.data.tags.get(f"tunesmith.{name}") for name in tags} == tags
    (perplexity,) = json.loads((folder.evaluation / "result.json").read_text())["metrics"]
    assert run.data.metrics["evaluation/perplexity"] == perplexity["tuned"]["value"]
    assert run.data.metrics["evaluation/perplexity_low"] == perplexity["tuned"]["low"]
    assert run.data.metrics["evaluation/perplexity_base"] == perplexity["comparisons"][0]["value"]["value"]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"config.json", "model_card.md", "report.html"}
    config = Path(client.download_artifacts(run.info.run_id, "config.json", str(folder.root))).read_text()
    assert "batchSize" in config
    assert "nobody's business" not in config


def test_tensorboard_reads_its_files(killed_and_run_again: Run) -> None:
    run = killed_and_run_again
    events = EventAccumulator(str(run.folder.tensorboard)).Reload()
    for name in ("loss", "validation/loss", "learning_rate"):
        points = [(point.step, point.value) for point in events.Scalars(name)]
        ours = [(record["step"], pytest.approx(record[name])) for record in records_of(run) if name in record]
        assert points == ours, name
    assert len(events.Scalars("evaluation/perplexity")) == 1
    assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"


WandbRecord: Any = wandb_records.Record  # type: ignore[attr-defined]  # protobuf makes it when it is loaded


def wandb_lines(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format (blocks of 32 KiB)."""
    data, at, whole = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield WandbRecord.FromString(whole)
            whole = b""


def test_wandb_leaves_its_files_without_a_network(killed_and_run_again: Run) -> None:
    run = killed_and_run_again
    files = sorted(run.folder.root.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2, "one for each process"
    lines = [line for file in files for line in wandb_lines(file)]
    begun = [line.run for line in lines if line.WhichOneof("record_type") == "run"]
    assert {(begin.run_id, begin.project) for begin in begun} == {(read_notes(run.folder)["wandb"].id, "arithmetic")}
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in line.history.item}
        for line in lines
        if line.WhichOneof("record_type") == "history"
    ]
    assert [(row["_step"], row["loss"]) for row in rows] == [(r["step"], r["loss"]) for r in records_of(run)]
    summary = {item.key: item.value_json for line in lines for item in line.summary.update}
    assert "evaluation/perplexity" in summary
    assert [line.exit.exit_code for line in lines if line.WhichOneof("record_type") == "exit"] == [1, 0]
    assert (files[1].parent / "files" / "report.html").read_text().startswith("<!doctype html>")


def kill_when_sent(folder: Path, server: int) -> None:
    """The server dies in the ninth step, when it has four at least."""

    def wait_and_kill(process: int, number: int) -> None:
        while (note := read_notes(RunFolder(folder)).get("mlflow")) is None or note.step < 4:
            time.sleep(0.05)
        os.killpg(server, signal.SIGKILL)
        time.sleep(0.2)

    signal_in_step(9, 0)
    os.kill = wait_and_kill


def test_a_server_that_dies_costs_the_run_nothing_and_gets_the_rest_later(
    server: Server, rows: Path, tmp_path: Path
) -> None:
    run = place(tmp_path, rows, {"mlflow": {"trackingUri": server.uri}})
    ended = tunesmith(*RUN, folder=tmp_path, plant=partial(kill_when_sent, run.folder.root, server.process.pid))
    output = " ".join(ended.output.split())
    assert (ended.code, ended.errors) == (0, "")
    assert output.count("mlflow: nothing could be sent, it is tried again later") == 1
    sent = read_notes(run.folder)["mlflow"].step
    assert 4 <= sent < STEPS
    assert f"mlflow: {STEPS - sent} of {STEPS} steps could not be sent; `tunesmith track runs/sums` does it" in output
    assert len(run.losses()) == STEPS

    server.stop()
    server.start()
    assert server.run(run.folder).info.status == "RUNNING"
    track = tunesmith("track", "runs/sums", folder=tmp_path)
    assert (track.code, track.errors) == (0, "")
    assert list(server.column(run.folder, "loss").values()) == run.losses()
    assert server.run(run.folder).info.status == "FINISHED"


def test_trials_are_runs_below_that_of_their_search(server: Server, killed_and_run_again: Run, tmp_path: Path) -> None:
    """As a search leaves them, which test_search shows."""
    whole = RunFolder(tmp_path / "runs" / "sums")
    shutil.copytree(killed_and_run_again.folder.root, whole.root)
    ends = {1: "Succeeded", 2: "Stopped"}
    trials = [Trial.model_validate({"number": n, "values": {}, "ended": ended}) for n, ended in ends.items()]
    for trial in trials:
        folder = trial_folder(whole, trial.number)
        folder.root.mkdir(parents=True)
        shutil.copy(whole.metrics, folder.metrics)
        shutil.copy(whole.config, folder.config)
    write_trials(whole, trials)
    assert tunesmith("track", "runs/sums", folder=tmp_path).code == 0
    for trial, status in zip(trials, ("FINISHED", "KILLED"), strict=True):
        folder = trial_folder(whole, trial.number)
        run = server.run(folder)
        assert run.data.tags["mlflow.parentRunId"] == server.run(whole).info.run_id
        assert run.info.status == status
        assert list(server.column(folder, "loss").values()) == killed_and_run_again.losses()
    (file,) = whole.root.glob("trials/001/wandb/offline-run-*/run-*.wandb")
    assert "sums" in {line.run.run_group for line in wandb_lines(file)}
