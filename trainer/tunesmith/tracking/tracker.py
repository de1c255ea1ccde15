"""What a tracker has to do; there is a module for each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from tunesmith.api import base
from tunesmith.tracking.facts import Facts
from tunesmith.tracking.records import Record

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class Note(base.Record):
    """What is kept of a run in one tracker, in the run's folder, so that the same run goes on."""

    address: str
    """Of the tracker and what the run belongs to there; another one gets a run of its own."""
    id: str
    """Of the run, as the tracker knows it."""
    step: int = 0
    """The last step that was sent."""
    status: Status = "RUNNING"
    """As it was told last."""
    evaluation: str | None = None
    """Digest of the evaluation that was sent."""


class Tracker(Protocol):
    """One run in one tracker. What it raises means that it could not be reached, and is to be tried again later."""

    address: str
    """As in Note."""

    def open(self, facts: Facts, note: Note | None, parent: str | None) -> Note:
        """Makes the run, or goes on with the one that is noted.

        Args:
            facts: of the run.
            note: of an earlier process, at the same address.
            parent: of a trial the id of its search's run.

        Returns:
            With the last step that the tracker has.
        """
        ...

    def log(self, records: Sequence[Record]) -> None:
        """Takes steps, each later than those before."""
        ...

    def evaluate(self, figures: Mapping[str, float], step: int) -> None:
        """Takes the figures of the evaluation, which belong to the last step."""
        ...

    def close(self, status: Status, tags: Mapping[str, str], files: Sequence[Path]) -> None:
        """Ends the run for now.

        Args:
            status: how.
            tags: what is known at the end.
            files: to be kept.
        """
        ...

    def where(self) -> str:
        """Where a person finds the run."""
        ...
