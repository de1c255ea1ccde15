"""What is known of a search's trials: trials.json in the run's folder, and each trial's own folder below trials/."""

import json
import math
from pathlib import Path

from pydantic import ValidationError

from tunesmith.api.base import Record
from tunesmith.api.load import InputError, Problem
from tunesmith.api.pod import RunFolder
from tunesmith.whole_files import write_whole


class Trial(Record):
    """One training of a search."""

    number: int
    """Counted from 1; its folder is trials/NNN."""
    values: dict[str, bool | int | float | str]
    """What it sets, by field."""
    ended: str | None = None
    """Why it ended: a Reason, or Stopped where it lagged behind; None while it is to go on."""
    message: str = ""
    """More about that."""
    loss: float | None = None
    """Its lowest validation loss."""
    best_step: int | None = None
    """The step of that loss."""
    steps: int = 0
    """How far it was trained."""

    @property
    def description(self) -> str:
        """Its values in a few words."""
        return ", ".join(f"{field.rsplit('.', 1)[-1]} {shown(value)}" for field, value in self.values.items())


def shown(value: object) -> str:
    """A value of a parameter for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def trial_folder(run: RunFolder, number: int) -> RunFolder:
    """The folder of a trial, which is that of an ordinary run."""
    return RunFolder(run.trials / f"{number:03d}")


def read_trials(run: RunFolder) -> list[Trial]:
    """The trials that have begun, by number.

    Raises:
        InputError: trials.json is damaged.
    """
    try:
        rows = json.loads(run.trials_table.read_text(encoding="utf-8"))
        return [Trial.model_validate(row) for row in rows]
    except FileNotFoundError:
        return []
    except (ValueError, ValidationError):
        raise InputError(Problem("is damaged; start over with --fresh", file=str(run.trials_table))) from None


def write_trials(run: RunFolder, trials: list[Trial]) -> None:
    """Leaves the trials in trials.json, whole or not at all."""
    write_whole(run.trials_table, json.dumps([trial.to_dict() for trial in trials], indent=1))


def curve(folder: RunFolder) -> list[tuple[int, float]]:
    """Step and loss of each validation of a trial, as metrics.jsonl has them."""
    points: dict[int, float] = {}
    for line in _lines(folder.metrics):
        try:
            record = json.loads(line)
        except ValueError:  # a line that is being written, or was cut off by a kill
            continue
        if math.isfinite(record.get("validation/loss", math.nan)):
            points[int(record["step"])] = float(record["validation/loss"])
    return sorted(points.items())


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def best_trial(trials: list[Trial]) -> Trial | None:
    """The trial with the lowest validation loss among those that were trained to their end."""
    trained = [trial for trial in trials if trial.ended == "Succeeded" and trial.loss is not None]
    return min(trained, key=lambda trial: (trial.loss, trial.number), default=None)
