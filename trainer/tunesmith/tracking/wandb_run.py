"""A run in Weights & Biases, through its library."""

import netrc
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb

from tunesmith.api.tracking import WandbTracking
from tunesmith.tracking.facts import Facts
from tunesmith.tracking.records import Record, figures_of
from tunesmith.tracking.tracker import Note, Status

_SETTINGS = {
    "silent": True,
    "symlink": False,
    "console": "off",
    "init_timeout": 20.0,
    # what it would find out by itself is about the process beside the run, not about the run
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class WandbRun:
    """Offline, each process that opens the run leaves a folder of its own; `wandb sync` joins them by the id."""

    def __init__(self, spec: WandbTracking, folder: Path) -> None:
        """
        Args:
            spec: which project, and how.
            folder: where the library keeps its files.
        """
        self._spec, self._folder = spec, folder
        self.address = "/".join(filter(None, (spec.base_url, spec.entity, spec.project)))
        self._run: Any = None

    def open(self, facts: Facts, note: Note | None, parent: str | None) -> Note:
        """See Tracker."""
        if self._spec.mode == "online" and not _has_key(self._spec.base_url):
            raise PermissionError("there is no key: set WANDB_API_KEY, or use `wandb login`")
        note = note or Note(address=self.address, id=uuid.uuid4().hex[:12])
        given = {"base_url": self._spec.base_url} if self._spec.base_url is not None else {}
        self._run = wandb.init(
            project=self._spec.project,
            entity=self._spec.entity,
            mode=self._spec.mode,
            id=note.id,
            resume="allow",
            name=facts.name,
            group=facts.group,
            config=facts.parameters | {"tags": facts.tags},
            dir=self._folder,
            reinit="create_new",
            settings=wandb.Settings(**_SETTINGS, **given),
        )
        if self._spec.mode == "online":
            return note.model_copy(update={"step": max(0, self._run.starting_step - 1)})
        return note

    def log(self, records: Sequence[Record]) -> None:
        """See Tracker."""
        for record in records:
            self._run.log({**figures_of(record), "_timestamp": record["time"]}, step=record["step"])

    def evaluate(self, figures: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        self._run.summary.update(dict(figures))

    def close(self, status: Status, tags: Mapping[str, str], files: Sequence[Path]) -> None:
        """See Tracker."""
        self._run.config.update({"tags": dict(tags)}, allow_val_change=True)
        for file in files:
            self._run.save(str(file), base_path=str(file.parent), policy="now", glob=False)
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)

    def where(self) -> str:
        """See Tracker."""
        if self._spec.mode == "offline":
            return f"{self._folder / 'wandb'}, for `wandb sync`"
        return str(self._run.url)


def _has_key(base_url: str | None) -> bool:
    """Whether the library finds a key; otherwise it would ask for one at the terminal."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(base_url or os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
