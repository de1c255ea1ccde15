"""Follows a run, and the trials of its search, until it has ended."""

import logging
from collections.abc import Callable, Iterator
from threading import Event

from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.api.tracking import TrackingSpec
from tunesmith.launch.folder import read_result
from tunesmith.launch.trials import Trial, read_trials, trial_folder
from tunesmith.tracking.facts import read_facts
from tunesmith.tracking.sender import Sender
from tunesmith.tracking.tracker import Status, Tracker

log = logging.getLogger(__name__)

POLL_S = 2.0
"""How often the run's folder is looked at."""


class Follower:
    """Sends what a run and its trials leave in their folders to every tracker of spec.tracking."""

    def __init__(self, job: FineTuneJob, folder: RunFolder, tell: Callable[[str], None]) -> None:
        """
        Args:
            job: whose spec.tracking it is.
            folder: of the run; its config.json is there.
            tell: is given sentences for people.
        """
        assert job.spec.tracking is not None
        self._spec, self._folder, self._tell = job.spec.tracking, folder, tell
        self._name = job.metadata.name
        self._tags = read_facts(folder).tags
        self._run = [Sender(name, tracker, folder, tell) for name, tracker in _trackers(self._spec, folder)]
        self._trials: dict[int, list[Sender]] = {}
        self._done: set[int] = set()

    def follow(self, ended: Event) -> None:
        """Sends what is new again and again, until `ended` is set."""
        while True:
            for sender in self._run:
                sender.advance()
            self._follow_trials()
            if ended.wait(POLL_S):
                return

    def end(self, outcome: Outcome | None) -> bool:
        """Sends all that is left.

        Args:
            outcome: how the run ended; None where it was killed.

        Returns:
            Whether everything was sent.
        """
        trained = read_result(self._folder.result)  # an evaluation counts its attempts anew
        attempts = {"tunesmith.attempt": str(trained.attempt)} if trained is not None else {}
        tags = self._tags | attempts | {"tunesmith.outcome": outcome.reason if outcome is not None else "Killed"}
        sent = [sender.end(status_of(outcome), tags) for sender in self._run]
        self._follow_trials(last=True)
        for sender in self._run:
            self._tell(sender.summary())
        return all(sent)

    def _follow_trials(self, last: bool = False) -> None:
        """Sends what is new of the trials; of those that have ended everything."""
        for trial in _trials_of(self._folder):
            folder = trial_folder(self._folder, trial.number)
            if trial.number in self._done or not folder.config.exists():
                continue
            if trial.number not in self._trials:
                self._trials[trial.number] = [
                    Sender(run.name, tracker, folder, log.info, self._name, run)
                    for run, (_, tracker) in zip(self._run, _trackers(self._spec, folder), strict=True)
                ]
            senders = [sender for sender in self._trials[trial.number] if sender.parent_is_there]
            if trial.ended is None and not last:
                for sender in senders:
                    sender.advance()
            else:
                status = _OF_TRIALS.get(trial.ended, "FAILED")
                tags = {"tunesmith.trial": str(trial.number), "tunesmith.outcome": trial.ended or "Interrupted"}
                sent = [sender.has_ended(status) or sender.end(status, tags) for sender in senders]
                if all(sent) and len(senders) == len(self._run):
                    self._done.add(trial.number)


_OF_TRIALS: dict[str | None, Status] = {"Succeeded": "FINISHED", "Stopped": "KILLED", None: "KILLED"}


def status_of(outcome: Outcome | None) -> Status:
    """How trackers call it."""
    if outcome is None or outcome.reason == "Interrupted":
        return "KILLED"
    return "FINISHED" if outcome.reason == "Succeeded" else "FAILED"


def _trackers(spec: TrackingSpec, folder: RunFolder) -> Iterator[tuple[str, Tracker]]:
    """A run in each tracker; their libraries are loaded only where they are used."""
    if spec.tensorboard is not None:
        from tunesmith.tracking.tensorboard_files import TensorBoardFiles

        yield "tensorboard", TensorBoardFiles(folder.tensorboard)
    if spec.mlflow is not None:
        from tunesmith.tracking.mlflow_run import MlflowRun

        yield "mlflow", MlflowRun(spec.mlflow)
    if spec.wandb is not None:
        from tunesmith.tracking.wandb_run import WandbRun

        yield "wandb", WandbRun(spec.wandb, folder.root)


def _trials_of(folder: RunFolder) -> list[Trial]:
    try:
        return read_trials(folder)
    except InputError:  # the search says so
        return []
