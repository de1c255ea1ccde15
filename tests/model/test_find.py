"""`tunesmith find learning-rate` and `micro-batch` on a real, tiny job."""

import csv
import json
from pathlib import Path

import yaml

from tests.model.jobs import body_of
from tests.model.processes import tunesmith


def test_a_learning_rate_is_found_and_the_run_is_left_alone(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body_of(rows)))
    ended = tunesmith(*("find", "learning-rate", "-f", "job.yaml", "--steps", "60", "--high", "10"), folder=tmp_path)
    assert (ended.code, ended.errors) == (0, "")
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == ["sums-find"]
    found = tmp_path / "runs" / "sums-find"
    figures = json.loads((found / "learning-rate.json").read_text())
    assert f"  learningRate: {figures['suggested']:.1e}" in ended.output
    assert 1e-4 < figures["suggested"] < 1e-1
    with (found / "learning-rate.csv").open() as lines:
        points = [(float(row["learning_rate"]), float(row["loss"])) for row in csv.DictReader(lines)]
    assert points[0][0] == 1e-6
    assert min(loss for _, loss in points) < 0.8 * points[0][1]
    assert len(points) < 60, "it goes on after the loss has exploded"
    assert (found / "learning-rate.png").exists()


def test_the_largest_micro_batch_within_the_memory(rows: Path, tmp_path: Path) -> None:
    body = body_of(rows, microBatchSize=8)
    body["spec"]["scaling"]["resources"]["memory"] = "8Gi"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    ended = tunesmith("find", "micro-batch", "-f", "job.yaml", folder=tmp_path)
    assert (ended.code, ended.errors) == (0, "")
    assert "at most 8.0 GiB for a worker" in ended.output
    assert ended.output.rstrip().endswith("training:\n  microBatchSize: 16"), ended.output
    assert not (tmp_path / "runs").exists()


def test_a_memory_that_nothing_fits_in(rows: Path, tmp_path: Path) -> None:
    """A trial alone takes more: each is ended, and the next smaller one is tried."""
    body = body_of(rows, microBatchSize=2)
    body["spec"]["scaling"]["resources"]["memory"] = "64Mi"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    ended = tunesmith("find", "micro-batch", "-f", "job.yaml", folder=tmp_path)
    assert (ended.code, ended.errors) == (1, "")
    assert "at most 0.1 GiB for a worker" in ended.output
    sizes = [line.split() for line in ended.output.splitlines() if "does not fit" in line]
    assert sizes == [["1", "does", "not", "fit"], ["2", "does", "not", "fit"]]
    assert "not even one row fits" in ended.output
