"""A run as TensorBoard's event files."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tunesmith.tracking.facts import Facts, flat
from tunesmith.tracking.records import Record, figures_of
from tunesmith.tracking.tracker import Note, Status


class TensorBoardFiles:
    """One event a step, with its figures as scalars; the parameters for the tab HPARAMS."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: where the files go.
        """
        self._folder = folder
        self.address = folder.name  # a folder that is moved takes its files along

    def open(self, facts: Facts, note: Note | None, parent: str | None) -> Note:
        """See Tracker."""
        self._writer = EventFileWriter(str(self._folder))
        if note is None:
            note = Note(address=self.address, id=facts.name)
            self._write(Event(wall_time=time.time(), summary=hparams_pb(dict(flat(facts.parameters)), facts.name)))
        # readers drop what an earlier process may have written beyond what it noted
        restart = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=note.step + 1, session_log=restart))
        return note

    def log(self, records: Sequence[Record]) -> None:
        """See Tracker."""
        for record in records:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in figures_of(record).items()]
            self._write(Event(wall_time=record["time"], step=record["step"], summary=Summary(value=values)))
        self._writer.flush()

    def evaluate(self, figures: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        self.log([{"step": step, "time": time.time(), **figures}])

    def close(self, status: Status, tags: Mapping[str, str], files: Sequence[Path]) -> None:
        """See Tracker."""
        self._writer.close()

    def where(self) -> str:
        """See Tracker."""
        return f"{self._folder}, for `tensorboard --logdir`"

    def _write(self, event: Event) -> None:
        self._writer.add_event(event)
