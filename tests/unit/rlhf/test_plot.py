"""The picture of a PPO run."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from tunesmith.api.pod import RunFolder
from tunesmith.rlhf.plot import plot_policy

COLUMNS = ("reward", "reward_p10", "reward_p90", "kl", "entropy", "explained_variance", "answer_tokens", "ended")


def record(step: int, reward: float, **more: float) -> dict[str, Any]:
    figures = dict.fromkeys((*COLUMNS, "value_loss", "clip_fraction"), 0.0) | {"reward": reward}
    return {"step": step, **{f"ppo/{name}": value for name, value in figures.items()}, **more}


def drawn(folder: RunFolder, records: list[dict[str, Any]], cut: str = "") -> bytes:
    folder.root.mkdir(exist_ok=True)
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in records) + cut)
    plot_policy(folder)
    return folder.policy_plot.read_bytes()


def test_a_run_is_drawn_with_what_it_earned(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    level = drawn(folder, [record(step, 0.5) for step in range(1, 31)])
    assert imread(folder.policy_plot).shape[:2] == (900, 1300)
    rising = [record(step, 0.02 * step) for step in range(1, 31)]
    drawn_rising = drawn(folder, rising)
    assert drawn_rising != level
    validated = [*rising[:-1], record(30, 0.6, **{"validation/reward": 0.4})]
    assert drawn(folder, validated) != drawn_rising


def test_a_run_that_was_killed_in_its_second_step_is_drawn_too(tmp_path: Path) -> None:
    assert drawn(RunFolder(tmp_path), [record(1, 0.5)], cut='{"step": 2, "ppo/rew')


@pytest.mark.parametrize("text", [None, "", '{"step": 1, "loss": 2.5}\n'])
def test_other_runs_are_not(tmp_path: Path, text: str | None) -> None:
    folder = RunFolder(tmp_path)
    if text is not None:
        folder.metrics.write_text(text)
    plot_policy(folder)
    assert not folder.policy_plot.exists()
