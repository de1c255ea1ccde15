"""The change that would make a job fit into a memory that is too small for it, by the arithmetic of `sizing`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tunesmith.api.architecture import Architecture
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.sizing import GIB, Memory, estimate
from tunesmith.api.trials import with_values


@dataclass(frozen=True)
class Change:
    """What would make a job fit."""

    fields: dict[str, Any]
    """The fields to set, by path below spec."""
    memory: Memory

    def __str__(self) -> str:
        settings = " and ".join(f"{field}: {_shown(value)}" for field, value in self.fields.items())
        return f"with {settings} it takes {self.memory.total / GIB:.1f} GiB"


def change_that_fits(spec: FineTuneJobSpec, model: Architecture, limit: float, on_gpu: bool = False) -> Change | None:
    """The least change after which the estimate is within a limit in bytes: one field, or else several of them; None
    where nothing that is tried helps."""
    singles = list(_changes(spec))
    together: list[dict[str, Any]] = []
    collected: dict[str, Any] = {}
    for fields_ in singles:
        collected = collected | fields_
        together.append(collected)
    for fields_ in [*singles, *together[1:]]:
        changed = _changed(spec, fields_)
        if changed is not None:
            memory = estimate(changed, model, on_gpu)
            if memory.total <= limit:
                return Change(fields_, memory)
    return None


def _changes(spec: FineTuneJobSpec) -> Iterator[dict[str, Any]]:
    """What may be tried, in the order of how little it costs."""
    size = min(spec.training.micro_batch_size, spec.training.batch_size)
    while size > 1:
        size //= 2
        yield {"training.microBatchSize": size}
    if not spec.training.gradient_checkpointing:
        yield {"training.gradientCheckpointing": True}
    if spec.method.full is not None:
        yield {"method": {"lora": {}}}
    if spec.model.quantization is None:
        lora: dict[str, Any] = {"method": {"lora": {}}} if spec.method.full is not None else {}
        yield {"model.quantization": {"type": "nf4"}} | lora
    for workers in (2, 4, 8, 16, 32, 64):
        if workers > spec.scaling.workers or (workers == spec.scaling.workers and spec.scaling.fsdp is None):
            yield {"scaling.workers": workers, "scaling.fsdp": {}}


def _changed(spec: FineTuneJobSpec, changes: dict[str, Any]) -> FineTuneJobSpec | None:
    """The spec with other fields; None where they do not go together."""
    data = spec.model_dump(mode="json", exclude_none=True)
    if "scaling.fsdp" in changes:
        data["scaling"].pop("deepspeed", None)
    try:
        return FineTuneJobSpec.model_validate(with_values(data, changes))
    except ValidationError:
        return None


def _shown(value: Any) -> str:
    return json.dumps(value).replace('"', "")
