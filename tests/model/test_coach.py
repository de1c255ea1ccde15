"""Runs that go wrong are told so in words, and one that goes well is told nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.model.jobs import body_of, write_rows
from tests.model.processes import Ended, tunesmith


def run(folder: Path, rows: int, **training: Any) -> tuple[Ended, list[str]]:
    """Trains with the command line; returns what it printed and the names of what it found."""
    write_rows(folder / "rows.jsonl", rows)
    (folder / "job.yaml").write_text(yaml.safe_dump(body_of(folder / "rows.jsonl", **training)))
    ended = tunesmith("run", "-f", "job.yaml", folder=folder)
    findings = json.loads((folder / "runs" / "sums" / "findings.json").read_text())
    for finding in findings:
        assert finding["name"] in ended.output
        assert f"1. {finding['remedies'][0]}" in " ".join(ended.output.split())
    result = json.loads((folder / "runs" / "sums" / "result.json").read_text())
    assert [text.partition(":")[0] for text in result["findings"]] == [finding["name"] for finding in findings]
    return ended, [finding["name"] for finding in findings]


WRONG: dict[str, tuple[int, dict[str, Any], str]] = {
    "a rate far too high": (400, {"learningRate": 3.0, "epochs": 3, "schedule": {"type": "constant"}}, "LossExplodes"),
    "a rate far too low": (400, {"learningRate": 1e-7, "epochs": 2}, "LossDoesNotFall"),
    "a rate that is too low": (400, {"learningRate": 1e-4, "epochs": 2}, "LearningRateTooLow"),
    "a handful of rows": (
        40,
        {"learningRate": 1e-2, "epochs": 40, "schedule": {"type": "constant"}, "checkpoint": {"everySteps": 10}},
        "Overfitting",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_run_that_goes_wrong(name: str, tmp_path: Path) -> None:
    rows, training, expected = WRONG[name]
    ended, found = run(tmp_path, rows, **training)
    assert ended.code == 0
    assert found[:1] == [expected]


def test_an_explosion_is_told_while_there_is_time(tmp_path: Path) -> None:
    rows, training, _ = WRONG["a rate far too high"]
    ended, _ = run(tmp_path, rows, **(training | {"epochs": 8}))
    assert ended.output.count("stop with Ctrl-C") == 1
    assert ended.output.index("stop with Ctrl-C") < ended.output.index("1. lower training.learningRate to a third")


def test_a_run_that_goes_well(tmp_path: Path) -> None:
    ended, found = run(tmp_path, 400, learningRate=5e-3, epochs=8, checkpoint={"everySteps": 40})
    assert (ended.code, found) == (0, [])
