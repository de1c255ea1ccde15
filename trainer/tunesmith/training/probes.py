"""A few steps of a run that are thrown away: to see how the loss takes a learning rate, or how much memory a
micro-batch takes."""

import csv
import json
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith.api.outcome import Outcome
from tunesmith.data.plan import EpochPlan
from tunesmith.training.checkpoint import Position
from tunesmith.training.failures import LossDivergedError
from tunesmith.training.loop import Trainer
from tunesmith.training.telemetry import peak_memory

_EXPLODED = 3.0
"""The range test ends at a loss that is this much above the lowest one, in units of how far the loss has fallen."""


def raise_rate(trainer: Trainer, position: Position, lowest: float, file: Path) -> Outcome:
    """Trains with rates that rise exponentially from step to step up to training.learningRate, until the loss explodes
    (Smith 2015, arXiv:1506.01186, section 3.3).

    Args:
        trainer: with a constant schedule; its number of steps is the number of rates.
        position: the start.
        lowest: the first rate.
        file: is given rate and loss of each step, as CSV. The loss of a step is that before its update.
    """
    highest, steps = trainer.training.learning_rate, trainer.plan.total_steps
    losses: list[float] = []
    with file.open("w", newline="", encoding="utf-8") as lines:
        rows = csv.writer(lines)
        rows.writerow(("learning_rate", "loss"))
        for step in range(steps):
            rate = lowest * (highest / lowest) ** (step / max(1, steps - 1))
            scaled = trainer.overrides.model_copy(update={"learning_rate_scale": rate / highest})
            probe = replace(trainer, overrides=scaled)
            try:
                with closing(probe.ahead):
                    position, record = probe._step(position)
            except LossDivergedError:
                break
            if "loss" not in record:  # skipNonFiniteSteps would leave the step out: it has diverged all the same
                break
            losses.append(record["loss"])
            rows.writerow((f"{rate:.6g}", f"{losses[-1]:.6g}"))
            lines.flush()
            fallen = max(losses[0] - min(losses), 0.05 * losses[0])
            if losses[-1] > min(losses) + _EXPLODED * fallen:
                break
    return Outcome(reason="Succeeded", step=position.step)


@dataclass(frozen=True)
class LongestRows(EpochPlan):
    """Steps of the longest rows, so that a micro-batch is as large as it can become."""

    chosen: tuple[int, ...] = ()

    def step(self, index: int) -> NDArray[np.int64]:
        """The same rows in each step."""
        return np.array(self.chosen, np.int64)


def fill_memory(trainer: Trainer, position: Position, file: Path) -> Outcome:
    """Two steps of two full micro-batches of the longest rows; leaves peak memory and speed in a file.

    The first step makes the optimizer's state, the second micro-batch adds to gradients that are there already.
    """
    size, lengths = trainer.training.micro_batch_size, trainer.data.train.lengths
    order = np.argsort(-lengths, kind="stable")
    count = 2 * size
    if trainer.collator.packed:  # rows may be short: as many as fill so many tokens
        filled = np.cumsum(np.resize(lengths[order], max(len(order), 64 * count)))
        count = max(1, int(np.searchsorted(filled, 2 * trainer.collator.texts * size * trainer.training.max_length)))
    rows = tuple(np.resize(order, count).tolist())
    plan = trainer.plan
    longest = LongestRows(plan.sets, plan.weights, plan.batch_size, plan.seed, plan.total_steps, rows)
    probe = replace(trainer, plan=longest)
    with closing(probe.ahead):
        position, _ = probe._step(position)
        started = time.perf_counter()
        position, _ = probe._step(position)
        seconds = time.perf_counter() - started
    figures = {"peak": peak_memory(), "tokens_per_second": int(lengths[list(rows)].sum()) / seconds}
    file.write_text(json.dumps(figures), encoding="utf-8")
    return Outcome(reason="Succeeded", step=position.step)
