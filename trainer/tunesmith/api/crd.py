"""Generates the CustomResourceDefinitions from the pydantic models."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.alias_generators import to_snake

from tunesmith.api.base import GROUP, VERSION
from tunesmith.api.job import IMMUTABLE_FIELDS, FineTuneJob, FineTuneJobSpec
from tunesmith.api.pipeline import STAGE_PARTS, STAGES, RLHFPipeline, RLHFPipelineSpec, StageName
from tunesmith.api.pipeline_rules import stage_rules
from tunesmith.api.pipeline_status import PipelineStatus
from tunesmith.api.status import JobStatus
from tunesmith.api.structural import structural_schema, validation


def fine_tune_job_crd() -> dict[str, Any]:
    """The CRD of FineTuneJob, as data."""
    started = "has(oldSelf.status) && has(oldSelf.status.startTime)"
    message = "cannot change once the job has started: make a new job"
    immutable = [
        validation(f"!({started}) || {_same(FineTuneJobSpec, field)}", message, f"spec.{field}")
        for field in IMMUTABLE_FIELDS
    ]
    status = structural_schema(JobStatus)
    status["properties"]["conditions"] |= _map_by("type")
    status["properties"]["attempts"] |= _map_by("number")
    columns = [
        _column("Phase", "string", ".status.phase"),
        _column("Progress", "integer", ".status.progress.percentage", "Percent of the training steps."),
        _column("Loss", "number", ".status.progress.loss", "Mean loss per token of the last step."),
        _column("Age", "date", ".metadata.creationTimestamp"),
        _column("Tokens/s", "number", ".status.progress.tokensPerSecond", wide=True),
        _column("Left", "integer", ".status.progress.remainingSeconds", "Seconds to the end.", wide=True),
        _column("Metric", "string", ".status.evaluation.metrics[0].name", "The first of the evaluation.", wide=True),
        _column("Value", "number", ".status.evaluation.metrics[0].tuned.value", "That of the metric.", wide=True),
        _column("Attempts", "integer", ".status.attempts[-1:].number", wide=True),
        _column("Message", "string", ".status.message", wide=True),
    ]
    root = _root(FineTuneJob, structural_schema(FineTuneJobSpec), status, immutable)
    return _crd("FineTuneJob", "ftj", columns, root)


def rlhf_pipeline_crd() -> dict[str, Any]:
    """The CRD of RLHFPipeline, as data."""
    spec = structural_schema(RLHFPipelineSpec)
    spec["x-kubernetes-validations"] += [validation(*rule) for rule in stage_rules()]
    _refer_to_job(spec, "spec", FineTuneJobSpec, *(spec["properties"][stage] for stage in STAGES))
    status = structural_schema(PipelineStatus)
    _refer_to_job(status, "status", JobStatus)
    status["properties"]["conditions"] |= _map_by("type")
    status["properties"]["stages"] |= _map_by("name")
    columns = [
        _column("Phase", "string", ".status.phase"),
        _column("Progress", "integer", ".status.percentage", "Percent of all stages."),
        _column("Age", "date", ".metadata.creationTimestamp"),
        _column("Message", "string", ".status.message", wide=True),
    ]
    immutable = [
        validation(
            f"!({_is_fixed(stage)}) || {_same(RLHFPipelineSpec, field)}",
            f"cannot change while stage {stage} runs, or what it has left is used: wait until the stage has failed, or "
            "make a new pipeline",
            f"spec.{field}",
        )
        for stage in STAGES
        for field in STAGE_PARTS[stage]
    ]
    return _crd("RLHFPipeline", "rlhf", columns, _root(RLHFPipeline, spec, status, immutable))


def _is_fixed(stage: StageName) -> str:
    """That a stage's job runs or has succeeded or, where the stage has none, the job of a stage that builds on it."""
    later = " || ".join(f"s.name == '{other}'" for other in STAGES[STAGES.index(stage) + 1 :])
    replaced = f"oldSelf.status.stages.exists(t, t.name == '{stage}' && has(t.phase) && !has(t.job))"
    whose = f"(s.name == '{stage}' || (({later}) && {replaced}))" if later else f"s.name == '{stage}'"
    return (
        "has(oldSelf.status) && has(oldSelf.status.stages) && oldSelf.status.stages.exists(s, has(s.job) && "
        f"has(s.phase) && s.phase != 'Failed' && {whose})"
    )


def _refer_to_job(whole: dict[str, Any], place: str, of_job: type[BaseModel], *stages: dict[str, Any]) -> None:
    """Takes the descriptions out of the parts that are a FineTuneJob's too, of which there may be one for each stage:
    the whole has to stay far below what an object may weigh."""
    for schema in (whole, *stages):
        for name, part in schema["properties"].items():
            if to_snake(name) in of_job.model_fields and (
                "properties" in part or "properties" in part.get("items", {})
            ):
                for inner in _parts(part):
                    inner.pop("description", None)
                part["description"] += f" See: kubectl explain finetunejob.{place}.{name}"


def _parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema below one."""
    inner = [*schema.get("properties", {}).values()]
    inner += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    for part in inner:
        yield part
        yield from _parts(part)


def _root(
    model: type[BaseModel], spec: dict[str, Any], status: dict[str, Any], rules: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "type": "object",
        "description": model.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": rules,
    }


def _crd(kind: str, short_name: str, columns: list[dict[str, Any]], root: dict[str, Any]) -> dict[str, Any]:
    singular = kind.lower()
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": root},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": f"{singular}s",
                "singular": singular,
                "shortNames": [short_name],
                "categories": ["tunesmith"],
            },
            "versions": [version],
        },
    }


def _map_by(key: str) -> dict[str, Any]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def _same(spec: type[BaseModel], field: str) -> str:
    """That a field of the spec is as it was; an optional one may be there or not."""
    same = f"self.spec.{field} == oldSelf.spec.{field}"
    if spec.model_fields[to_snake(field)].default is not None:
        return same
    return f"(has(self.spec.{field}) == has(oldSelf.spec.{field}) && (!has(self.spec.{field}) || {same}))"


def _column(name: str, kind: str, path: str, description: str = "", wide: bool = False) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return column | ({"description": description} if description else {}) | ({"priority": 1} if wide else {})


def render(crd: dict[str, Any]) -> str:
    """A CRD as YAML, with a first line that says where it comes from."""
    return "# Generated by `make generate` from tunesmith.api; do not edit.\n" + yaml.safe_dump(
        crd, sort_keys=False, width=120
    )


def write(folder: Path) -> None:
    """Writes every CRD below `folder`, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _files().items():
        (folder / name).write_text(text, encoding="utf-8")


def _files() -> dict[str, str]:
    return {"finetunejobs.yaml": render(fine_tune_job_crd()), "rlhfpipelines.yaml": render(rlhf_pipeline_crd())}


def main(arguments: list[str]) -> int:
    """`python -m tunesmith.api.crd [--check] FOLDER...` writes the CRDs, or says which folder holds others."""
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    if "--check" not in arguments:
        for folder in folders:
            write(folder)
        return 0
    files = [(folder / name, text) for folder in folders for name, text in _files().items()]
    drifted = [file for file, text in files if not file.exists() or file.read_text(encoding="utf-8") != text]
    for file in drifted:
        print(f"{file} is not what tunesmith.api generates; run `make generate`", file=sys.stderr)
    return 1 if drifted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
