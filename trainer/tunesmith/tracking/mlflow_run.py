"""A run in MLflow, through its client."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from tunesmith.api.tracking import MLflowTracking
from tunesmith.tracking.facts import Facts, flat
from tunesmith.tracking.records import Record, figures_of
from tunesmith.tracking.tracker import Note, Status

T = TypeVar("T")
_IN_EVERY_STEP = "tokens"
"""The metric by which the server is asked how far it has come."""


class MlflowRun:
    """Points are sent once: after a lost answer the same points are sent again, which the server's database knows by
    their time and step."""

    def __init__(self, spec: MLflowTracking) -> None:
        self._spec = spec
        self.address = f"{spec.tracking_uri} {spec.experiment}"
        self._id = ""

    def open(self, facts: Facts, note: Note | None, parent: str | None) -> Note:
        """See Tracker."""
        self._client = MlflowClient(tracking_uri=self._spec.tracking_uri)
        if note is not None and self._goes_on(note.id):
            points = self._client.get_metric_history(note.id, _IN_EVERY_STEP)
            note = note.model_copy(update={"step": max((point.step for point in points), default=0)})
        else:
            tags = facts.tags | ({"mlflow.parentRunId": parent} if parent is not None else {})
            run = self._client.create_run(
                self._experiment(), run_name=facts.name, tags=tags | {"mlflow.source.name": "tunesmith"}
            )
            note = Note(address=self.address, id=run.info.run_id)
        self._id = note.id
        if not self._client.get_run(note.id).data.params:  # what was noted cannot be noted otherwise
            self._send_parameters(facts)
        return note

    def _goes_on(self, run_id: str) -> bool:
        """Whether the run is still there; then it runs again."""
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        if run.info.lifecycle_stage == "deleted":
            return False
        self._client.update_run(run_id, status="RUNNING")
        return True

    def _experiment(self) -> str:
        """Its id; several jobs may make it at once."""
        name = self._spec.experiment
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage == "deleted":
            raise MlflowException(f"the experiment {name} was deleted; restore it, or name another")
        return str(found.experiment_id)

    def _send_parameters(self, facts: Facts) -> None:
        parameters = [
            Param(_key(path), _cut(str(value), MAX_PARAM_VAL_LENGTH)) for path, value in flat(facts.parameters)
        ]
        for some in _in_batches(parameters, MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self._id, params=some, synchronous=True)

    def log(self, records: Sequence[Record]) -> None:
        """See Tracker."""
        metrics = [
            Metric(_key(name), value, int(record["time"] * 1000), record["step"])
            for record in records
            for name, value in figures_of(record).items()
        ]
        for some in _in_batches(metrics, MAX_METRICS_PER_BATCH):
            self._client.log_batch(self._id, metrics=some, synchronous=True)

    def evaluate(self, figures: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        self.log([{"step": step, "time": time.time(), **figures}])

    def close(self, status: Status, tags: Mapping[str, str], files: Sequence[Path]) -> None:
        """See Tracker."""
        for file in files:
            self._client.log_artifact(self._id, str(file))
        noted = [RunTag(name, _cut(value, MAX_TAG_VAL_LENGTH)) for name, value in tags.items()]
        self._client.log_batch(self._id, tags=noted, synchronous=True)
        self._client.set_terminated(self._id, status=status)

    def where(self) -> str:
        """See Tracker."""
        if self._spec.tracking_uri.startswith("sqlite:"):
            return f"{self._spec.tracking_uri}, run {self._id}"
        experiment = self._client.get_run(self._id).info.experiment_id
        return f"{self._spec.tracking_uri.rstrip('/')}/#/experiments/{experiment}/runs/{self._id}"


def _key(name: str) -> str:
    """A name as MLflow allows it."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:MAX_ENTITY_KEY_LENGTH]


def _cut(value: str, most: int) -> str:
    return value if len(value) <= most else value[: most - 1] + "…"


def _in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
