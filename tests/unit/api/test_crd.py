"""The generated CRDs."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.crd import fine_tune_job_crd, render, rlhf_pipeline_crd, write
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.status import JobStatus

CRDS = Path(__file__).parents[3] / "manifests" / "crds"
CLIENT_SIDE_APPLY = 256 * 1024
"""Bytes of the annotation in which `kubectl apply` keeps a whole object."""


CRD = {"FineTuneJob": fine_tune_job_crd(), "RLHFPipeline": rlhf_pipeline_crd()}


def schema(kind: str) -> dict[str, Any]:
    root: dict[str, Any] = CRD[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below one, with its path."""
    yield path, node
    for name, value in node.get("properties", {}).items():
        yield from nodes(value, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from nodes(node[key], f"{path}[]")


def test_manifests_hold_what_the_models_say(tmp_path: Path) -> None:
    write(tmp_path)
    assert {f.name: f.read_text() for f in CRDS.iterdir()} == {f.name: f.read_text() for f in tmp_path.iterdir()}


@pytest.mark.parametrize("kind", CRD)
def test_it_is_small(kind: str) -> None:
    assert len(json.dumps(CRD[kind])) < CLIENT_SIDE_APPLY * 0.55


@pytest.mark.parametrize("kind", CRD)
def test_no_number_needs_an_exponent(kind: str) -> None:
    """Where YAML is read as 1.1 says, 1e-08 is a string."""
    assert not re.findall(r": -?[0-9.]+e[-+]?[0-9]+$", render(CRD[kind]), re.MULTILINE)


@pytest.mark.parametrize("part", ["spec", "status"])
@pytest.mark.parametrize("kind", CRD)
def test_every_field_is_described(kind: str, part: str) -> None:
    fields = dict(nodes(schema(kind)["properties"][part], part))
    assert len(fields) > 30
    bare = [path for path, node in fields.items() if not node.get("description") and not path.endswith("[]")]
    if kind == "RLHFPipeline":
        bare = [path for path in bare if not described_elsewhere(path, fields)]
    assert bare == []


def described_elsewhere(path: str, fields: dict[str, dict[str, Any]]) -> bool:
    """Whether it is below a part that refers to the same part of a FineTuneJob."""
    keys = path.split(".")
    of_job = FineTuneJobSpec if keys[0] == "spec" else JobStatus
    shared = {info.alias or name for name, info in of_job.model_fields.items()}
    at = next((n for n, key in enumerate(keys) if n and key.removesuffix("[]") in shared), None)
    if at is None:
        return False
    part = ".".join(keys[: at + 1]).removesuffix("[]")
    return f"kubectl explain finetunejob.{keys[0]}." in fields[part]["description"]


@pytest.mark.parametrize("kind", CRD)
def test_it_is_structural(kind: str) -> None:
    for path, node in nodes(schema(kind), ""):
        odd = node.keys() & {"$ref", "$defs", "oneOf", "allOf", "const", "title", "exclusiveMin"}
        assert not odd, f"{path}: {odd}"
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path


@pytest.mark.parametrize("kind", CRD)
def test_lists_and_texts_are_bounded_so_that_rules_stay_cheap(kind: str) -> None:
    for path, node in nodes(schema(kind)["properties"]["spec"], "spec"):
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, path


def test_every_rule_of_a_job_holds_for_a_pipelines_stages_in_its_own_terms() -> None:
    rules = schema("RLHFPipeline")["properties"]["spec"]["x-kubernetes-validations"]
    assert len(rules) > 50
    for rule in rules:
        foreign = re.findall(r"self\.(?!sft|reward|ppo|model|evaluation|scaling|template)\w+", rule["rule"])
        assert not foreign, rule
