"""What is read off a learning-rate range test, and how a trial of a micro-batch is kept within its memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tunesmith.launch.micro_batch import _watch
from tunesmith.launch.rate_test import RateCurve, draw

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
