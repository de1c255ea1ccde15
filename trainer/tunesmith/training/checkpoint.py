"""Checkpoints: complete, atomic, checked, rotated; the best one stays.

A checkpoint is a folder `checkpoints/step-00000200` with one safetensors file for each part of the state (the weights,
each of the optimizer's tensors by its name, and what a method adds) and `checkpoint.json`, which is written last and
holds the digest of every file. It is written under another name and then renamed, so that a folder with that name is
whole.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunesmith.api.base import Schema
from tunesmith.api.pod import RunFolder
from tunesmith.training.state import State

log = logging.getLogger(__name__)


class Position(Schema):
    """Where a run stands; everything of its state that is not a tensor.

    There is no random state in it: the seeds of a step are a function of the step. Nor is there a schedule: likewise.
    """

    step: int = 0
    """Finished optimizer steps; with batchSize, which is immutable, this is the position in the data."""
    tokens: int = 0
    """Real tokens of the training rows seen so far."""
    samples: int = 0
    """Training rows seen so far."""
    best_loss: float | None = None
    """The lowest validation loss so far."""
    best_step: int | None = None
    """Where it was."""
    without_improvement: int = 0
    """Validations since then."""
    skipped_steps: int = 0
    """Steps that were left out because their loss or gradient was not finite."""
    loss_scale: float | None = None
    """Of the gradient scaler, for fp16."""
    kl_coefficient: float | None = None
    """Of PPO, where it is steered."""
    data_digest: str
    """Of the tokenized training rows."""
    metrics: dict[str, float] = {}
    """The last values by name."""

    def after_validation(self, loss: float) -> "Position":
        """The same place once a validation has been heeded; less is better."""
        if self.best_loss is None or loss < self.best_loss:
            return self.model_copy(update={"best_loss": loss, "best_step": self.step, "without_improvement": 0})
        return self.model_copy(update={"without_improvement": self.without_improvement + 1})


class DamagedCheckpointError(Exception):
    """A checkpoint cannot be read, or is not what was written."""


def save(folder: RunFolder, position: Position, state: State, keep: int) -> Path:
    """Writes a checkpoint and removes the old ones; only the first worker calls this.

    Raises:
        OSError: for want of space, say; the checkpoints before are intact.
    """
    target = folder.checkpoints / f"step-{position.step:08d}"
    partial = folder.checkpoints / f".partial-{position.step:08d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for part, tensors in state.items():
            save_file(tensors, partial / f"{part}.safetensors")
            _sync(partial / f"{part}.safetensors")
        files = {f"{part}.safetensors": _digest(partial / f"{part}.safetensors") for part in state}
        text = json.dumps({"position": position.to_dict(), "sha256": files}, indent=1)
        (partial / "checkpoint.json").write_text(text, encoding="utf-8")
        _sync(partial / "checkpoint.json")
        shutil.rmtree(target, ignore_errors=True)  # of a run that went back to an earlier checkpoint
        partial.rename(target)
        _sync(folder.checkpoints)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _rotate(folder, keep, position.best_step)
    return target


def all_checkpoints(folder: RunFolder) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.checkpoints.glob("step-*"))


def read_position(checkpoint: Path) -> Position:
    """Where a checkpoint stands.

    Raises:
        DamagedCheckpointError: its description cannot be read.
    """
    return Position.model_validate(_description(checkpoint)["position"])


def read_state(checkpoint: Path) -> State:
    """The tensors of a checkpoint.

    Raises:
        DamagedCheckpointError: a file is missing or is not what was written.
    """
    return {part: read_part(checkpoint, part) for part in _parts(checkpoint)}


def read_part(checkpoint: Path, part: str) -> dict[str, Any]:
    """One part of a checkpoint's state, such as the weights; its digest is checked."""
    name = f"{part}.safetensors"
    try:
        if _digest(checkpoint / name) != _description(checkpoint)["sha256"][name]:
            raise DamagedCheckpointError(f"{checkpoint.name}/{name} is not what was written")
        tensors: dict[str, Any] = load_file(checkpoint / name)
    except (OSError, SafetensorError, KeyError) as error:
        raise DamagedCheckpointError(f"{checkpoint.name}/{name} cannot be read: {error}") from None
    return tensors


def newest_intact(folder: RunFolder) -> Path | None:
    """The newest checkpoint whose files are all as they were written; says so when it passes one over."""
    for checkpoint in reversed(all_checkpoints(folder)):
        try:
            read_state(checkpoint)
        except DamagedCheckpointError as error:
            log.warning("%s; going on from the checkpoint before it", error)
            continue
        return checkpoint
    return None


def best_checkpoint(folder: RunFolder) -> Path | None:
    """The checkpoint with the lowest validation loss; the newest one where none was computed."""
    newest = newest_intact(folder)
    if newest is None:
        return None
    best_step = read_position(newest).best_step
    best = folder.checkpoints / f"step-{best_step:08d}" if best_step is not None else newest
    return best if best.exists() else newest


def _parts(checkpoint: Path) -> list[str]:
    return [name.removesuffix(".safetensors") for name in _description(checkpoint)["sha256"]]


def _description(checkpoint: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))
        Position.model_validate(description["position"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise DamagedCheckpointError(f"{checkpoint.name}/checkpoint.json cannot be read: {error}") from None
    return description


def _rotate(folder: RunFolder, keep: int, best_step: int | None) -> None:
    best = f"step-{best_step:08d}" if best_step is not None else None
    for checkpoint in all_checkpoints(folder)[:-keep]:
        if checkpoint.name != best:
            shutil.rmtree(checkpoint)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
