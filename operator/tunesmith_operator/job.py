"""A job that is fit to run, and one run of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tunesmith.api.job import IMMUTABLE_FIELDS, FineTuneJobSpec
from tunesmith.api.outcome import Overrides
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

    @property
    def evaluation_name(self) -> str:
        """The name of the evaluation's Job."""
        return child_name(self.name, "evaluation")


@dataclass(frozen=True)
class Run:
    """One attempt, with all that its objects are built from."""

    job: Job
    attempt: int
    overrides: Overrides
    folder: str
    """The run's folder, as pvc://CLAIM/NAMESPACE/NAME-UID8."""
    models: Mapping[str, Model]
    """The models that it reads, by their address in the spec."""
    image: str

    @property
    def storage_claim(self) -> str:
        return Location.parse(self.folder).name

    @property
    def claims(self) -> dict[str, bool]:
        """The claims that the pods mount, and whether only to read."""
        models = self.models.values()
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
    """The addresses of all data sets of a job."""
    return [part.source for part in spec.dataset.sources.values() if part.source is not None]


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
