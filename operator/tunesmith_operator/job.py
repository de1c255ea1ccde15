"""A job that is fit to run, and one run of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from tunesmith.api.job import IMMUTABLE_FIELDS, FineTuneJobSpec
from tunesmith.api.outcome import Overrides, PastAttempt
from tunesmith.api.pod import Tracing
from tunesmith.api.source import Location
from tunesmith_operator.names import QUEUE_LABEL, child_name, digest
from tunesmith_operator.observed import Model, Object


@dataclass(frozen=True)
class Job:
    """A FineTuneJob whose spec is valid."""

    name: str
    namespace: str
    uid: str
    queue: str
    """The queue of Kueue that it waits in; empty for none."""
    spec: FineTuneJobSpec

    @classmethod
    def parse(cls, body: Object) -> Self:
        """Reads the object of the API server.

        Raises:
            pydantic.ValidationError: the spec is not valid.
        """
        meta = body["metadata"]
        return cls(
            name=meta["name"],
            namespace=meta["namespace"],
            uid=meta["uid"],
            queue=meta.get("labels", {}).get(QUEUE_LABEL, ""),
            spec=FineTuneJobSpec.model_validate(body["spec"]),
        )

    def attempt_name(self, number: int) -> str:
        """The name of the attempt's ConfigMap and RayJob."""
        return child_name(self.name, str(number))

    def evaluation_name(self, try_: int = 1) -> str:
        """The name of the evaluation's ConfigMap, and of its Job or RayJob."""
        return child_name(self.name, "evaluation" if try_ == 1 else f"evaluation-{try_}")


@dataclass(frozen=True)
class Run:
    """One attempt, or one try of the evaluation, with all that its objects are built from."""

    job: Job
    attempt: int
    """Its number; tries of the evaluation are counted on from the attempts."""
    overrides: Overrides
    folder: str
    """The run's folder, as pvc://CLAIM/NAMESPACE/NAME-UID8."""
    models: Mapping[str, Model]
    """The models that it reads, by their address in the spec."""
    image: str
    past: tuple[PastAttempt, ...] = ()
    """The attempts before it."""
    runs: Mapping[str, Model] = field(default_factory=dict)
    """The run folders of the jobs that the evaluation compares with, by their name."""
    metric_modules: tuple[str, ...] = ()
    """Where own metrics may come from."""
    tracing: Tracing | None = None
    """Where its spans go, and what they are part of."""
    evaluation: int = 0
    """Which try of the evaluation this is, counted from 1; 0 for an attempt."""

    @property
    def name(self) -> str:
        """The name of its ConfigMap and of its RayJob or Job."""
        return self.job.evaluation_name(self.evaluation) if self.evaluation else self.job.attempt_name(self.attempt)

    @property
    def workers(self) -> int:
        """How many workers it has. A search has as many for each trial that trains at the same time."""
        spec = self.job.spec
        if self.evaluation:
            return spec.evaluation.workers if spec.evaluation is not None else 1
        return spec.scaling.workers * (spec.search.concurrency if spec.search is not None else 1)

    @property
    def storage_claim(self) -> str:
        return Location.parse(self.folder).name

    @property
    def claims(self) -> dict[str, bool]:
        """The claims that the pods mount, and whether only to read."""
        models = [*self.models.values(), *self.runs.values()]
        sources = [*data_sources(self.job.spec), *(model.source for model in models)]
        locations = [Location.parse(source) for source in sources]
        read = {location.name for location in locations if location.scheme == "pvc"}
        read |= {claim for model in models for claim in model.claims}
        return dict.fromkeys(sorted(read), True) | {self.storage_claim: False}

    @property
    def config_maps(self) -> list[str]:
        """The ConfigMaps of the user's that hold data."""
        locations = [Location.parse(source) for source in data_sources(self.job.spec)]
        return sorted({location.name for location in locations if location.scheme == "configmap"})


def data_sources(spec: FineTuneJobSpec) -> list[str]:
    """The addresses of all that a job reads and that is no model: data sets, tasks, run folders to compare with."""
    found = [part.source for part in spec.dataset.sources.values() if part.source is not None]
    if spec.evaluation is not None:
        found += spec.evaluation.compare_with
        if spec.evaluation.harness is not None and spec.evaluation.harness.folder is not None:
            found.append(spec.evaluation.harness.folder)
    return found


def spec_hash(spec: FineTuneJobSpec) -> str:
    """A short hash of each immutable field, as `model=1a2b3c4d ...`.

    Defaults are left out, so that a new release with more fields sees no difference where there is none.
    """
    fields = spec.model_dump(mode="json", exclude_defaults=True)
    return " ".join(f"{name}={digest(json.dumps(fields.get(name), sort_keys=True), 8)}" for name in IMMUTABLE_FIELDS)


def changed_fields(before: str, after: str) -> list[str]:
    """The fields in which two results of `spec_hash` differ."""
    pairs = zip(before.split(), after.split(), strict=False)
    return [f"spec.{new.partition('=')[0]}" for old, new in pairs if old != new]
