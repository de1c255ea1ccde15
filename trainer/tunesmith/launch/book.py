"""The trials of a search as they are known by now, written down as they begin and end."""

from collections.abc import Callable
from typing import Any

from tunesmith.api.outcome import Outcome
from tunesmith.launch.suggest import suggest
from tunesmith.launch.trials import Trial, best_trial, read_trials, write_trials
from tunesmith.training.assignment import Assignment


class Book:
    """The trials as they are known by now; written down before a trial starts, and when it has ended."""

    def __init__(self, assignment: Assignment, tell: Callable[[str], None]) -> None:
        spec = assignment.job.spec
        assert spec.search is not None
        self.spec, self.count, self._tell = spec, spec.search.count, tell
        self._folder = assignment.folder
        self.trials = read_trials(self._folder)
        if not self.left and best_trial(self.trials) is None:  # all failed: whoever runs it again has mended something
            self.trials = [Trial(number=trial.number, values=trial.values) for trial in self.trials]
        self.known = {trial.number for trial in self.trials if trial.ended}
        """Trials that ended before this process: they are not told again."""
        self.fatal: Outcome | None = None
        """What ends the whole search."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Book":
        return self  # there is one book; Tune copies what it is given

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves what it is given, but only trials.json is ever read again

    @property
    def left(self) -> int:
        """How many trials have not ended."""
        return self.count - sum(trial.ended is not None for trial in self.trials)

    def trial(self, number: int) -> Trial:
        """A trial; it is drawn and noted when it is asked for first."""
        if number > len(self.trials):
            self.trials.append(Trial(number=number, values=suggest(self.spec, number, self.trials)))
            write_trials(self._folder, self.trials)
        return self.trials[number - 1]

    @property
    def stopping(self) -> bool:
        """Whether nothing should be started any more."""
        return self.fatal is not None or self._folder.stop_request.exists()

    def end(self, number: int, outcome: Outcome | None, result: dict[str, Any]) -> None:
        """Notes that a trial has ended; without an outcome it was stopped because it lags behind."""
        if number in self.known or (outcome is None and self.stopping):
            return
        if outcome is not None and outcome.reason in ("Interrupted", "StorageFull"):
            self.fatal = outcome if outcome.reason == "StorageFull" else self.fatal
            return
        loss, steps = result.get("best_loss"), int(result.get("step", 0))
        trial = self.trials[number - 1].model_copy(
            update={
                "ended": outcome.reason if outcome else "Stopped",
                "message": outcome.message if outcome else "its validation loss lagged behind the other trials'",
                "loss": loss,
                "best_step": result.get("best_step"),
                "steps": max(steps, (outcome.step or 0) if outcome else 0),
            }
        )
        self.trials[number - 1] = trial
        write_trials(self._folder, self.trials)
        figure = f"validation loss {loss:.4f}" if loss is not None else "no validation loss"
        how = "" if trial.ended == "Succeeded" else f", {trial.ended}"
        self._tell(f"trial {number}/{self.count}: {figure} after {trial.steps} steps{how} ({trial.description})")
