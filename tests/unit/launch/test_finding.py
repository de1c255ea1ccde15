"""What is read off a learning-rate range test; which micro-batches are tried, and how one is kept within its memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.api.invalid import changed
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import load_jobs
from tunesmith.launch import micro_batch
from tunesmith.launch.micro_batch import Tried, _watch, find_micro_batch
from tunesmith.launch.rate_test import RateCurve, draw
from tunesmith.sources import Resolver

MIB = 2**20


def curve(noise: float = 0.0) -> RateCurve:
    """Flat until 1e-5, falls until 1e-2, then explodes."""
    rates = np.geomspace(1e-7, 1, 100)
    place = np.log10(rates)
    falling = 5 - 4 / (1 + np.exp(-2.5 * (place + 3.5)))
    losses = falling + np.exp(3 * (place + 0.7))
    return RateCurve(rates, losses + noise * np.random.default_rng(0).normal(size=100))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_suggestion_lies_where_the_loss_still_falls(noise: float) -> None:
    found = curve(noise)
    assert 1e-4 < found.rates[found.steepest] < 1e-3
    assert 5e-3 < found.rates[found.lowest] < 1e-1
    assert found.suggested == pytest.approx(found.rates[found.lowest] / 10, rel=0.06)


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    draw(curve(), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("mebibytes", "fits"), [(10, True), (400, False)])
def test_a_trial_that_takes_more_than_its_share_is_killed(mebibytes: int, fits: bool) -> None:
    script = f"block = bytearray({mebibytes * MIB}); import time; time.sleep({0.2 if fits else 30})"
    process = subprocess.Popen([sys.executable, "-c", script])
    assert _watch(process, 200 * MIB) is fits
    assert process.returncode == (0 if fits else -9)


@pytest.mark.parametrize(
    ("own", "workers", "room", "expected"),
    [
        (4, 1, 9, {4: True, 8: True, 16: False}),
        (4, 1, 99, {4: True, 8: True, 16: True, 24: True}),
        (16, 1, 5, {4: True, 8: False, 16: False}),
        (5, 1, 0, {1: False, 2: False, 5: False}),
        (16, 2, 99, {12: True}),
        (1, 1, 1, {1: True, 2: False}),
    ],
    ids=["doubled", "up to the step", "halved", "not even one row", "the step of two workers", "one row alone"],
)
def test_a_micro_batch_is_doubled_while_it_fits_or_halved_until_it_does(
    own: int, workers: int, room: int, expected: dict[int, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = changed({"batchSize: 4": f"batchSize: 24\n    microBatchSize: {own}"})
    (tmp_path / "job.yaml").write_text(f"{sizes}  scaling: {{workers: {workers}}}\n")
    (job,) = load_jobs(tmp_path / "job.yaml")
    given: list[tuple[int, object]] = []

    def attempt(job: FineTuneJob, resolver: Resolver, size: int, limit: float | None) -> Tried:
        assert size not in [before for before, _ in given], "none twice"
        given.append((size, limit))
        return Tried(size, 10 * size if size <= room else None)

    monkeypatch.setattr(micro_batch, "_try", attempt)
    told: list[Tried] = []
    tried = find_micro_batch(job, Resolver(), 5e9, told.append)
    assert {result.size: result.peak is not None for result in tried} == expected
    assert [result.size for result in tried] == sorted(expected), "by size"
    assert [result.size for result in told] == [size for size, _ in given], "each as it ends"
    assert {limit for _, limit in given} == {5e9}
