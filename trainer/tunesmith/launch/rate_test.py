"""The learning-rate range test: runs it, reads a rate off its curve, draws it."""

import csv
import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith.api.cluster import ScalingSpec
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem
from tunesmith.api.optimizer import Schedule
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.launch.run import in_thread, stop_on_signals
from tunesmith.sources import Resolver
from tunesmith.training.assignment import Assignment
from tunesmith.training.probes import raise_rate
from tunesmith.training.worker import run_worker

_FEWEST_STEPS = 10
"""A curve of fewer points tells nothing."""


@dataclass(frozen=True)
class RateCurve:
    """Rate and loss of each step of the test; what is read off the curve refers to its smoothed form."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def smooth(self) -> NDArray[np.float64]:
        """The mean of the losses around each, in a window of an eighth of the steps that narrows at the ends."""
        reach = max(1, len(self.losses) // 16)
        around = [self.losses[max(0, i - reach) : i + reach + 1] for i in range(len(self.losses))]
        return np.array([part.mean() for part in around])

    @property
    def lowest(self) -> int:
        """Where the loss is lowest."""
        return int(self.smooth.argmin())

    @property
    def steepest(self) -> int:
        """Where the loss falls fastest by the logarithm of the rate, before it is lowest."""
        slope = np.gradient(self.smooth, np.log(self.rates))
        return int(slope[: self.lowest + 1].argmin())

    @property
    def suggested(self) -> float:
        """A tenth of the rate with the lowest loss, with two digits."""
        return float(f"{self.rates[self.lowest] / 10:.1e}")


def run_rate_test(
    job: FineTuneJob, resolver: Resolver, target: Path, steps: int, lowest: float, highest: float
) -> RateCurve:
    """Runs the test from the job's start weights on its own data, in a folder that is thrown away.

    Args:
        job: what would be trained; one worker does the test, which changes no result.
        resolver: finds models and data.
        target: the folder for learning-rate.csv, .json and .png.
        steps: at most so many.
        lowest: the first rate.
        highest: the last rate.

    Raises:
        InputError: the job cannot run, or the loss exploded at once.
    """
    target.mkdir(parents=True, exist_ok=True)
    table = (target / "learning-rate.csv").absolute()
    training = job.spec.training.model_copy(
        update={
            "epochs": None,
            "max_steps": steps,
            "learning_rate": highest,
            "embedding_learning_rate": None,
            "schedule": Schedule.model_validate({"type": "constant", "warmup": 0.0}),
        }
    )
    scaling = ScalingSpec(resources=job.spec.scaling.resources)
    spec = job.spec.model_copy(update={"training": training, "scaling": scaling, "search": None})
    changed = job.model_copy(update={"spec": spec})
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        task = Assignment(changed, folder, resolver.absolute(), probe=partial(raise_rate, lowest=lowest, file=table))
        with stop_on_signals(folder):
            outcome = in_thread(lambda: run_worker(task))
    return _read(outcome, table, target)


def _read(outcome: Outcome, table: Path, target: Path) -> RateCurve:
    if outcome.reason != "Succeeded":
        raise InputError(Problem(f"the test ended with {outcome.told}"))
    with table.open(encoding="utf-8") as lines:
        rows = [(float(row["learning_rate"]), float(row["loss"])) for row in csv.DictReader(lines)]
    if len(rows) < _FEWEST_STEPS:
        raise InputError(Problem(f"the loss exploded after {len(rows)} steps; start at a lower rate", "--low"))
    curve = RateCurve(np.array([rate for rate, _ in rows]), np.array([loss for _, loss in rows]))
    figures = {
        "suggested": curve.suggested,
        "lowest": {"rate": curve.rates[curve.lowest], "loss": curve.smooth[curve.lowest]},
        "steepest": {"rate": curve.rates[curve.steepest], "loss": curve.smooth[curve.steepest]},
    }
    (target / "learning-rate.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    draw(curve, target / "learning-rate.png")
    return curve


def draw(curve: RateCurve, file: Path) -> None:
    """The curve as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot(curve.rates, curve.losses, color="0.75", linewidth=1, label="loss of each step")
    axis.plot(curve.rates, curve.smooth, color="tab:blue", linewidth=2, label="smoothed")
    marks = {"steepest descent": curve.steepest, "lowest": curve.lowest}
    for (name, place), color in zip(marks.items(), ("tab:orange", "tab:green"), strict=True):
        label = f"{name}: {curve.rates[place]:.1e}"
        axis.plot(curve.rates[place], curve.smooth[place], "o", color=color, label=label, zorder=3)
    axis.axvline(curve.suggested, color="tab:red", linestyle="--", label=f"suggested: {curve.suggested:.1e}")
    axis.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    spread = curve.losses[0] - curve.smooth.min()
    axis.set_ylim(curve.losses.min() - 0.1 * spread, max(curve.losses[0] + 0.6 * spread, curve.losses[:5].max()))
    axis.legend(frameon=False)
    figure.savefig(file, dpi=110)
