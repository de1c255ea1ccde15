"""The progress display."""

import json
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tunesmith.api.pod import RunFolder
from tunesmith.cli.progress import TrainingProgress

SUMMARY = {"train_rows": 1234, "train_tokens": 56789, "validation_rows": 12}
SUMMARY |= {"truncated": 3, "dropped": 0, "total_steps": 8}


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
    partial.write_text(json.dumps(SUMMARY))
    partial.rename(folder.data)


def test_it_shows_data_steps_losses_and_speed(folder: RunFolder) -> None:
    def act(wait_for: Callable[[str], None]) -> None:
        begin(folder)
        wait_for("1,234 rows, 56,789 tokens to train on; 12 rows to validate on; 3 truncated")
        folder.metrics.write_text(line(1, **{"validation/loss": 5.0}) + line(2))
        wait_for("2/8 loss 2.0000, validation 5.0000, 1,500 tokens/s")
        with folder.metrics.open("a") as lines:
            lines.write(line(8))

    assert "8/8 loss 0.5000, validation 5.0000" in shown_after(folder, act)


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
