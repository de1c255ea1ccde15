"""The progress display."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tunesmith.api.pod import RunFolder
from tunesmith.cli.progress import TrainingProgress
from tunesmith.data.summary import DataSummary, Lengths, SetSummary

SUMMARY = DataSummary(
    train_rows=1234,
    train_tokens=56789,
    learned_tokens=5678,
    lengths=Lengths(3, 17, 90, [10, 800, 300, 0, 124]),
    truncated=3,
    dropped=0,
    repeated=0,
    overlapping=2,
    validation_rows=12,
    test_rows=0,
    sets=[SetSummary("configmap://sums/sums.jsonl", 1234, 56789, 5678, 1234)],
    warnings=["2 training rows stand in the validation or test rows too: left out of the training"],
    total_steps=8,
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def line(step: int, **more: float) -> str:
    return json.dumps({"step": step, "loss": 4.0 / step, "tokens_per_second": 1500.0, **more}) + "\n"


def shown_after(folder: RunFolder, act: Callable[[Callable[[str], None]], None]) -> str:
    """All that was shown; `act` may wait until a text is."""
    output = StringIO()

    def wait_for(text: str) -> None:
        end = time.monotonic() + 20
        while text not in output.getvalue():
            assert time.monotonic() < end, output.getvalue()
            time.sleep(0.01)

    with TrainingProgress(folder, Console(file=output, force_terminal=True, width=120, color_system=None)):
        act(wait_for)
    return output.getvalue()


def begin(folder: RunFolder) -> None:
    partial = folder.root / "partial"
    partial.write_text(json.dumps(asdict(SUMMARY)))
    partial.rename(folder.data)


def test_it_shows_data_steps_losses_and_speed(folder: RunFolder) -> None:
    def act(wait_for: Callable[[str], None]) -> None:
        begin(folder)
        wait_for("too: left out of the training")
        folder.metrics.write_text(line(1, **{"validation/loss": 5.0}) + line(2))
        wait_for("2/8 loss 2.0000, validation 5.0000, 1,500 tokens/s")
        with folder.metrics.open("a") as lines:
            lines.write(line(8))

    assert "8/8 loss 0.5000, validation 5.0000" in shown_after(folder, act)


def test_a_run_that_ends_at_once_shows_its_data(folder: RunFolder) -> None:
    def act(wait_for: Callable[[str], None]) -> None:
        time.sleep(0.1)  # it looks for the data five times a second: once by now
        begin(folder)
        folder.metrics.write_text(line(8))

    shown = shown_after(folder, act)
    assert "too: left out of the training" in shown
    assert "8/8 loss 0.5000" in shown


def test_steps_that_were_left_out_have_no_loss(folder: RunFolder) -> None:
    def left_out(step: int) -> str:
        return json.dumps({"step": step, "skipped_steps": step, "tokens_per_second": 1500.0}) + "\n"

    def act(wait_for: Callable[[str], None]) -> None:
        begin(folder)
        folder.metrics.write_text(left_out(1))
        wait_for("1/8 no loss yet, 1,500 tokens/s")
        with folder.metrics.open("a") as lines:
            lines.write(line(2) + left_out(3))

    assert "3/8 loss 2.0000, 1,500 tokens/s" in shown_after(folder, act)


def test_of_ppo_it_shows_reward_and_divergence(folder: RunFolder) -> None:
    """The loss says little there, and is no sign of trouble when it rises."""

    def of_policy(step: int, **more: float) -> str:
        figures = {"ppo/reward": step / 20, "ppo/kl": 0.25 * step, "loss": 9.0 * step, "tokens_per_second": 1500.0}
        return json.dumps({"step": step, **figures, **more}) + "\n"

    def act(wait_for: Callable[[str], None]) -> None:
        begin(folder)
        folder.metrics.write_text("".join(of_policy(step) for step in range(1, 7)))
        wait_for("6/8 reward 0.300, kl 1.50, 1,500 tokens/s")
        with folder.metrics.open("a") as lines:
            lines.write(of_policy(8, **{"validation/reward": 0.375}))

    shown = shown_after(folder, act)
    assert "8/8 reward 0.400, validation 0.375, kl 2.00" in shown
    assert "loss" not in shown
    assert "LossExplodes" not in shown


def test_a_line_that_is_half_written_waits(folder: RunFolder) -> None:
    def act(wait_for: Callable[[str], None]) -> None:
        begin(folder)
        folder.metrics.write_text(line(1) + line(2)[:10])
        wait_for("1/8")
        with folder.metrics.open("a") as lines:
            lines.write(line(2)[10:])

    assert "2/8" in shown_after(folder, act)


def test_a_file_that_a_resumed_run_has_cut_is_read_from_its_start(folder: RunFolder) -> None:
    """Even where it has grown longer again than it was, so that the old place is in the middle of a line."""

    def act(wait_for: Callable[[str], None]) -> None:
        begin(folder)
        folder.metrics.write_text(line(1) + line(2) + line(3))
        wait_for("3/8")
        cut = folder.root / "cut"
        cut.write_text(line(1) + line(2, **{"validation/loss": 5.25}) + line(3) + line(4))
        cut.rename(folder.metrics)
        wait_for("4/8")

    assert "validation 5.2500" in shown_after(folder, act)


def test_a_run_that_fails_before_it_knows_its_data_shows_nothing(folder: RunFolder) -> None:
    assert shown_after(folder, lambda wait_for: None) == ""
