"""Brings one run to one tracker, as far as it can be reached."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter

from tunesmith.api.pod import RunFolder
from tunesmith.tracking.facts import attachments, read_evaluation, read_facts
from tunesmith.tracking.records import Records, steps_after
from tunesmith.tracking.tracker import Note, Status, Tracker
from tunesmith.whole_files import write_whole

log = logging.getLogger(__name__)

_BATCH = 500
"""Steps that are sent at once."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 60.0
"""Between two tries to reach a tracker, doubled from one to the next."""

_NOTES = TypeAdapter(dict[str, Note])


class Sender:
    """What cannot be sent stays in the run's folder, and is tried again later."""

    def __init__(
        self,
        name: str,
        tracker: Tracker,
        folder: RunFolder,
        tell: Callable[[str], None],
        group: str | None = None,
        parent: "Sender | None" = None,
    ) -> None:
        """
        Args:
            name: of the tracker, as in spec.tracking.
            tracker: the run in it.
            folder: of the run.
            tell: is given a sentence where the tracker cannot be reached, and where it can be again.
            group: of a trial the name of its job.
            parent: of a trial the sender of its search's run.
        """
        self.name = name
        self._tracker, self._folder, self._tell, self._group, self._parent = tracker, folder, tell, group, parent
        self._records = Records(folder.metrics)
        note = read_notes(folder).get(name)
        self.note = note if note is not None and note.address == tracker.address else None
        self._is_open = False
        self._pause, self._next_try, self._error = 0.0, 0.0, ""

    @property
    def step(self) -> int:
        """The last step that was sent."""
        return self.note.step if self.note is not None else 0

    @property
    def parent_is_there(self) -> bool:
        """Whether the run that a trial belongs to could be sent."""
        return self._parent is None or (self._parent.note is not None and not self._parent._error)

    def advance(self) -> bool:
        """Sends the steps that are new, unless the tracker could not be reached a moment ago.

        Returns:
            Whether everything was sent.
        """
        return time.monotonic() >= self._next_try and self._attempt(self._send_steps)

    def end(self, status: Status, tags: dict[str, str]) -> bool:
        """Sends what is left, the evaluation and the files, and how the run ended.

        Returns:
            Whether everything was sent.
        """
        return self._attempt(lambda: self._end(status, tags))

    def has_ended(self, status: Status) -> bool:
        """Whether the tracker knows all of it, from an earlier process perhaps."""
        return self.note is not None and self.note.status == status and not steps_after(self._folder.metrics, self.step)

    def summary(self) -> str:
        """Where the run is to be found, or what is missing."""
        if not self._error:
            return f"{self.name}: {self._tracker.where()}"
        left = steps_after(self._folder.metrics, self.step)
        what = f"{left} of {steps_after(self._folder.metrics, 0)} steps" if left else "how the run ended"
        return f"{self.name}: {what} could not be sent; `tunesmith track {self._folder.root}` does it later"

    def _attempt(self, send: Callable[[], None]) -> bool:
        try:
            send()
        except Exception as error:  # whatever a library raises, the run goes on
            log.warning("%s", self.name, exc_info=error)
            self._is_open = False
            self._pause = min(max(_FIRST_PAUSE_S, 2 * self._pause), _LONGEST_PAUSE_S)
            self._next_try = time.monotonic() + self._pause
            if not self._error:
                self._tell(f"{self.name}: nothing could be sent, it is tried again later: {_in_a_line(error)}")
            self._error = _in_a_line(error)
            return False
        if self._error:
            self._tell(f"{self.name}: sending again")
        self._pause, self._error = 0.0, ""
        return True

    def _send_steps(self) -> None:
        if not self._is_open:
            facts = read_facts(self._folder, self._group)
            parent = self._parent.note.id if self._parent is not None and self._parent.note is not None else None
            note = self._tracker.open(facts, self.note, parent)
            self._is_open, self._records = True, Records(self._folder.metrics)
            self._keep(note.model_copy(update={"status": "RUNNING"}))
        while records := self._records.peek(_BATCH):
            fresh = [record for record in records if record["step"] > self.step]
            if fresh:
                self._tracker.log(fresh)
                self._keep(self._noted(step=fresh[-1]["step"]))
            self._records.advance()

    def _end(self, status: Status, tags: dict[str, str]) -> None:
        self._send_steps()
        evaluation = read_evaluation(self._folder)
        if evaluation is not None and evaluation.digest != self._noted().evaluation:
            self._tracker.evaluate(evaluation.figures, self.step)
            self._keep(self._noted(evaluation=evaluation.digest))
        with TemporaryDirectory() as copies:
            self._tracker.close(status, tags, attachments(self._folder, Path(copies)))
        self._is_open = False
        self._keep(self._noted(status=status))

    def _noted(self, **changes: object) -> Note:
        assert self.note is not None
        return self.note.model_copy(update=changes)

    def _keep(self, note: Note) -> None:
        """Notes it in the run's folder, beside what other trackers' senders have noted."""
        if note == self.note:
            return
        self.note = note
        notes = read_notes(self._folder) | {self.name: note}
        write_whole(self._folder.tracking, _NOTES.dump_json(notes, indent=1, exclude_none=True).decode())


def read_notes(folder: RunFolder) -> dict[str, Note]:
    """The notes in a run's folder, by tracker; none where they cannot be read."""
    try:
        return _NOTES.validate_json(folder.tracking.read_bytes())
    except (OSError, ValueError):
        return {}


def _in_a_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
