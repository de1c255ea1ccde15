"""Generates the CustomResourceDefinitions from the pydantic models.

A CRD wants a structural OpenAPI v3.0 schema: no $ref, no anyOf over types, exclusive limits as booleans.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.alias_generators import to_snake

from tunesmith.api.base import GROUP, VERSION, Schema
from tunesmith.api.job import IMMUTABLE_FIELDS, FineTuneJob, FineTuneJobSpec
from tunesmith.api.status import JobStatus

_KEPT = (
    *("type", "description", "default", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum", "minProperties", "maxProperties", "x-kubernetes-int-or-string"),
)


def fine_tune_job_crd() -> dict[str, Any]:
    """The CRD of FineTuneJob, as data."""
    started = "has(oldSelf.status) && has(oldSelf.status.attempts) && oldSelf.status.attempts.size() > 0"
    immutable = [
        {
            "rule": f"!({started}) || {_same(field)}",
            "message": "cannot change once the job has started: make a new job",
            "fieldPath": f".spec.{field}",
        }
        for field in IMMUTABLE_FIELDS
    ]
    status = _schema(JobStatus)
    status["properties"]["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    status["properties"]["attempts"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["number"]}
    root = {
        "type": "object",
        "description": FineTuneJob.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _schema(FineTuneJobSpec),
            "status": status,
        },
        "x-kubernetes-validations": immutable,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"finetunejobs.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "FineTuneJob",
                "listKind": "FineTuneJobList",
                "plural": "finetunejobs",
                "singular": "finetunejob",
                "shortNames": ["ftj"],
                "categories": ["tunesmith"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        _column("Phase", "string", ".status.phase"),
                        _column("Progress", "integer", ".status.progress.percentage", "Percent of the training steps."),
                        _column("Loss", "number", ".status.progress.loss", "Mean loss per token of the last step."),
                        _column("Age", "date", ".metadata.creationTimestamp"),
                        _column("Tokens/s", "number", ".status.progress.tokensPerSecond", wide=True),
                        _column(
                            "Left", "integer", ".status.progress.remainingSeconds", "Seconds to the end.", wide=True
                        ),
                        _column("Attempts", "integer", ".status.attempts[-1:].number", wide=True),
                        _column("Message", "string", ".status.message", wide=True),
                    ],
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def _same(field: str) -> str:
    """That a field of the spec is as it was; an optional one may be there or not."""
    same = f"self.spec.{field} == oldSelf.spec.{field}"
    if FineTuneJobSpec.model_fields[to_snake(field)].default is not None:
        return same
    return f"(has(self.spec.{field}) == has(oldSelf.spec.{field}) && (!has(self.spec.{field}) || {same}))"


def _column(name: str, kind: str, path: str, description: str = "", wide: bool = False) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return column | ({"description": description} if description else {}) | ({"priority": 1} if wide else {})


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    generated = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(generated, generated.get("$defs", {}), model)


def _structural(
    node: dict[str, Any], definitions: dict[str, Any], model: type[BaseModel] | None = None
) -> dict[str, Any]:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        return _structural(
            definitions[name] | {k: v for k, v in node.items() if k != "$ref"}, definitions, _model(name)
        )
    choices = [c for c in node.get("anyOf", node.get("oneOf", ())) if c.get("type") != "null"]
    if len(choices) == 1:
        outer = {k: v for k, v in node.items() if k not in ("anyOf", "oneOf")}
        return _structural(choices[0] | outer, definitions, model)
    result = {key: node[key] for key in _KEPT if node.get(key) is not None}
    if "default" in result:
        result["default"] = _without_nulls(result["default"])
    if "const" in node:
        result["enum"] = [node["const"]]
    for limit in ("Minimum", "Maximum"):
        if f"exclusive{limit}" in node:
            result |= {limit.lower(): node[f"exclusive{limit}"], f"exclusive{limit}": True}
    if "items" in node:
        result["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "properties" in node:
        result["properties"] = {name: _structural(value, definitions) for name, value in node["properties"].items()}
        result |= {"required": node["required"]} if node.get("required") else {}
    if model is not None and issubclass(model, Schema):
        rules = [_rule(rule.cel, rule.message, rule.field) for rule in model.all_rules()]
        result |= {"x-kubernetes-validations": rules} if rules else {}
    return _tidy(result)


def _without_nulls(value: Any) -> Any:
    """A default as the API server takes it: it refuses null for a field that is merely optional."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _rule(cel: str, message: str, field: str) -> dict[str, str]:
    path = "".join(f".{part}" for part in field.split(".")) if field else ""
    return {"rule": cel, "message": message} | ({"fieldPath": path} if path else {})


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    if schema.get("type") == "integer":
        schema["format"] = "int64"
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return schema


def _model(name: str) -> type[BaseModel] | None:
    """The model class that pydantic wrote as the definition `name`."""
    todo: list[type[BaseModel]] = [Schema]
    while todo:
        current = todo.pop()
        if current.__name__ == name:
            return current
        todo += current.__subclasses__()
    return None


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
    return {"finetunejobs.yaml": render(fine_tune_job_crd())}


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
