"""A trial of a search, as Ray Tune runs it: an ordinary run in its own folder, held at each checkpoint until Tune has
decided whether it goes on."""

import json
import threading
import time
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from ray.tune import Trainable

from tunesmith.api.job import FineTuneJob, FineTuneJobSpec
from tunesmith.api.outcome import Outcome
from tunesmith.api.trials import trial_spec
from tunesmith.launch.folder import open_folder, read_result
from tunesmith.launch.run import run_attempts
from tunesmith.launch.trials import Trial, curve, trial_folder
from tunesmith.launch.workers import Placement
from tunesmith.training.assignment import Assignment
from tunesmith.training.failures import outcome_of
from tunesmith.whole_files import write_whole

_PREDECESSOR_PATIENCE_S = 60.0
"""How long a trial waits for the process that trained it before the search was killed."""
_POLL_S = 0.05


class TrialProcess(Trainable):
    """Trains trials, one after the other."""

    def setup(  # type: ignore[override]  # with_parameters adds the others
        self, config: dict[str, Any], task: Assignment, placement: Placement, threads: int | None
    ) -> None:
        """The first trial of this process.

        Args:
            config: `trial`: a Trial as data.
            task: the search's own assignment.
            placement: where the workers of a trial run.
            threads: CPU threads of a worker, where several trials share this machine.
        """
        self._task, self._placement, self._threads = task, placement, threads
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial; there is a process for each that runs at once, not for each that there is."""
        self.cleanup()
        self._begin(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune asks for one at the end; a trial's checkpoints are its own."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """As above."""

    def cleanup(self) -> None:
        """Ends a trial that is not to go on; it leaves a checkpoint."""
        if self._thread is not None and self._thread.is_alive():
            self._folder.stop_request.touch()
            self._thread.join()

    def _begin(self, config: dict[str, Any]) -> None:
        self._trial = Trial.model_validate(config["trial"])
        self._folder = trial_folder(self._task.folder, self._trial.number)
        self._thread: threading.Thread | None = None
        self._outcome: Outcome | None = None
        self._seen: list[tuple[int, float]] = []

    def step(self) -> dict[str, Any]:
        """The next validation loss of the trial, or its end."""
        if self._trial.ended is not None:
            return self._replay()
        if self._thread is None:
            self._folder.root.mkdir(parents=True, exist_ok=True)
            self._hold(1)
            self._thread = threading.Thread(target=self._train, daemon=True, name=f"trial-{self._trial.number}")
            self._thread.start()
        elif self._seen:
            self._hold(self._seen[-1][0] + 1)
        while True:
            alive = self._thread.is_alive()
            fresh = curve(self._folder)[len(self._seen) :]
            # the last validation of a run is told with its end: what has been trained is not stopped any more
            if fresh and (len(fresh) > 1 or (alive and fresh[0][0] < self._total_steps())):
                self._seen.append(fresh[0])
                return self._result()
            if not alive:
                self._seen += fresh
                assert self._outcome is not None
                return self._result() | {"outcome": self._outcome.to_dict(), "done": True}
            if self._task.folder.stop_request.exists():
                self._folder.stop_request.touch()
            time.sleep(_POLL_S)

    def _replay(self) -> dict[str, Any]:
        """What an ended trial told at its time, so that Tune knows what to compare others with."""
        points = [point for point in curve(self._folder) if point[0] <= self._trial.steps]
        self._seen.append(points[len(self._seen)] if len(self._seen) < len(points) else (self._trial.steps, 1e9))
        return self._result() | {"done": len(self._seen) >= len(points)}

    def _result(self) -> dict[str, Any]:
        """Tune wants a number in every result; a trial without any is as bad as can be."""
        if not self._seen:
            return {"step": 0, "loss": 1e9}
        best_step, best = min(self._seen, key=lambda point: point[1])
        step, loss = self._seen[-1]
        return {"step": step, "loss": loss, "best_loss": best, "best_step": best_step}

    def _hold(self, step: int) -> None:
        write_whole(self._folder.hold, str(step))

    def _total_steps(self) -> int:
        return int(json.loads(self._folder.data.read_text(encoding="utf-8"))["total_steps"])

    def _train(self) -> None:
        try:
            job = trial_job(self._task.job, self._trial, self._threads)
            with open_folder(self._folder, job, patience_s=_PREDECESSOR_PATIENCE_S):
                self._outcome = self._run(job)
        except ValidationError as error:
            text = str(error.errors(include_url=False)[0]["msg"])
            self._outcome = Outcome(reason="InvalidInput", message=f"these values do not go together: {text}")
        except Exception as error:  # any failure is the trial's result; a defect's traceback is in its log
            self._outcome = outcome_of(error, 1)
        finally:
            self._folder.hold.unlink(missing_ok=True)

    def _run(self, job: FineTuneJob) -> Outcome:
        earlier = read_result(self._folder.result)
        if earlier is not None and earlier.reason == "Succeeded" and self._folder.model.exists():
            return earlier  # the search was killed before it could note that
        self._folder.result.unlink(missing_ok=True)
        task = replace(self._task, job=job, folder=self._folder, attempt=1)
        # a trial that diverges has shown what there is to see; with another rate it would be another trial
        return run_attempts(task, self._placement, lambda _: None, worth_retrying=("OutOfMemory",))


def trial_job(job: FineTuneJob, trial: Trial, threads: int | None) -> FineTuneJob:
    """The job that a trial runs.

    Raises:
        pydantic.ValidationError: its values do not go together.
    """
    spec: FineTuneJobSpec = trial_spec(job.spec, trial.values)
    if threads is not None:
        resources = spec.scaling.resources.model_copy(update={"cpu": str(threads)})
        spec = spec.model_copy(update={"scaling": spec.scaling.model_copy(update={"resources": resources})})
    name = f"{job.metadata.name}-{trial.number:03d}"
    return job.model_copy(update={"spec": spec, "metadata": job.metadata.model_copy(update={"name": name})})
