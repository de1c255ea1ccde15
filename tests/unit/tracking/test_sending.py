"""What reaches a tracker, and what happens when nothing does."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.api.invalid import changed
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.cli.main import main
from tunesmith.tracking import beside
from tunesmith.tracking.facts import Facts, flat
from tunesmith.tracking.follow import status_of
from tunesmith.tracking.records import Record
from tunesmith.tracking.sender import Sender, read_notes
from tunesmith.tracking.tracker import Note, Status

SPEC: dict[str, Any] = yaml.safe_load(changed({"2e-4": "0.0002"}))["spec"]


class Memory:
    """A tracker that remembers, and can be away."""

    def __init__(self, address: str = "memory") -> None:
        self.address = address
        self.steps: list[int] = []
        self.figures: dict[str, float] = {}
        self.status: Status | None = None
        self.opened = 0
        self.is_away = False

    def _answer(self) -> None:
        if self.is_away:
            raise ConnectionError("connection refused\nby the server")

    def open(self, facts: Facts, note: Note | None, parent: str | None) -> Note:
        self._answer()
        self.opened += 1
        return note or Note(address=self.address, id=f"run of {facts.name}")

    def log(self, records: Sequence[Record]) -> None:
        self._answer()
        self.steps += [record["step"] for record in records]

    def evaluate(self, figures: Mapping[str, float], step: int) -> None:
        self._answer()
        self.figures |= figures

    def close(self, status: Status, tags: Mapping[str, str], files: Sequence[Path]) -> None:
        self._answer()
        assert [file.name for file in files] == ["config.json"]
        self.status = status

    def where(self) -> str:
        return "in memory"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "sums")
    folder.root.mkdir()
    job = {"metadata": {"name": "sums"}, "spec": {"model": {"source": "hf://acme/tiny"}}}
    folder.config.write_text(json.dumps({"job": job, "versions": {"torch": "2"}}))
    return folder


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def sender(folder: RunFolder, said: list[str]) -> Callable[[Memory], Sender]:
    return lambda tracker: Sender("memory", tracker, folder, said.append)


def write(folder: RunFolder, *steps: int) -> None:
    with folder.metrics.open("a") as lines:
        lines.writelines(json.dumps({"step": step, "time": 1.0, "loss": 0.5}) + "\n" for step in steps)


def test_an_outage_is_said_once_and_made_up_for(
    folder: RunFolder, said: list[str], sender: Callable[[Memory], Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("tunesmith.tracking.sender.time.monotonic", lambda: clock[0])
    tracker = Memory()
    sending = sender(tracker)
    write(folder, 1, 2)
    assert sending.advance()
    tracker.is_away = True
    write(folder, 3)
    for _ in range(3):
        assert not sending.advance()
        clock[0] += 100
    assert said == ["memory: nothing could be sent, it is tried again later: connection refused"]
    tracker.is_away = False
    write(folder, 4)
    assert sending.advance()
    assert tracker.steps == [1, 2, 3, 4]
    assert said[1:] == ["memory: sending again"]


def test_a_tracker_that_is_away_is_left_alone_for_a_while(
    folder: RunFolder, sender: Callable[[Memory], Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("tunesmith.tracking.sender.time.monotonic", lambda: clock[0])
    tracker = Memory()
    tracker.is_away = True
    sending = sender(tracker)
    write(folder, 1)
    sending.advance()
    tracker.is_away = False
    clock[0] = 4.9
    assert not sending.advance()
    clock[0] = 5.1
    assert sending.advance()


def test_at_the_end_it_is_said_what_is_missing(
    folder: RunFolder, said: list[str], sender: Callable[[Memory], Sender]
) -> None:
    tracker = Memory()
    sending = sender(tracker)
    write(folder, 1, 2)
    sending.advance()
    tracker.is_away = True
    write(folder, 3, 4, 5)
    assert not sending.end("FINISHED", {})
    assert sending.summary() == (
        f"memory: 3 of 5 steps could not be sent; `tunesmith track {folder.root}` does it later"
    )
    tracker.is_away = False
    later = sender(tracker)
    assert later.end("FINISHED", {})
    assert tracker.steps == [1, 2, 3, 4, 5]
    assert later.summary() == "memory: in memory"


def test_a_run_goes_on_as_the_same_and_no_step_twice(folder: RunFolder, sender: Callable[[Memory], Sender]) -> None:
    tracker = Memory()
    write(folder, 1, 2, 3)
    assert sender(tracker).end("KILLED", {})
    folder.metrics.unlink()
    write(folder, 1, 2, 3, 4, 5)
    assert sender(tracker).end("FINISHED", {})
    assert tracker.steps == [1, 2, 3, 4, 5]
    assert read_notes(folder)["memory"].id == "run of sums"
    assert tracker.status == "FINISHED"


def test_another_address_gets_a_run_of_its_own(folder: RunFolder, sender: Callable[[Memory], Sender]) -> None:
    write(folder, 1, 2)
    sender(Memory()).end("FINISHED", {})
    other = Memory("elsewhere")
    sender(other).end("FINISHED", {})
    assert other.steps == [1, 2]
    assert read_notes(folder)["memory"].address == "elsewhere"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(reason="Succeeded"), "FINISHED"),
        (Outcome(reason="GateFailed"), "FAILED"),
        (Outcome(reason="OutOfMemory"), "FAILED"),
        (Outcome(reason="Interrupted"), "KILLED"),
        (None, "KILLED"),
    ],
)
def test_how_a_run_ended(outcome: Outcome | None, status: Status) -> None:
    assert status_of(outcome) == status


def test_a_spec_becomes_parameters_by_path() -> None:
    spec: dict[str, Any] = {
        "training": {"batchSize": 16, "packing": True, "schedule": {"type": "cosine"}, "seed": None},
        "method": {"full": {}},
        "evaluation": {"metrics": ["loss", "bleu"], "gates": [{"metric": "bleu", "min": 0.5}]},
    }
    assert dict(flat(spec)) == {
        "training.batchSize": 16,
        "training.packing": True,
        "training.schedule.type": "cosine",
        "method.full": "{}",
        "evaluation.metrics": '["loss", "bleu"]',
        "evaluation.gates.0.metric": "bleu",
        "evaluation.gates.0.min": 0.5,
    }


def test_a_library_that_is_missing_is_said_before_the_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "find_spec", lambda name: None)
    spec = SPEC | {"tracking": {"wandb": {"project": "sums", "mode": "offline"}}}
    job = FineTuneJob.model_validate({"metadata": {"name": "sums"}, "spec": spec})
    with (
        pytest.raises(InputError, match=r"^spec\.tracking\.wandb: wandb is not installed here: pip install"),
        beside.tracked(job, folder, print),
    ):
        pass


def test_a_folder_without_trackers_has_nothing_to_send(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = {"metadata": {"name": "sums"}, "spec": SPEC}
    (tmp_path / "config.json").write_text(json.dumps({"job": job}))
    assert main(["track", str(tmp_path)]) == 2
    assert "config.json: spec.tracking: is not set: add it to the job's file" in capsys.readouterr().err
