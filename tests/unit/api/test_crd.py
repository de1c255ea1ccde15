"""The generated CRD."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.crd import fine_tune_job_crd, render, write

CRDS = Path(__file__).parents[3] / "manifests" / "crds"
CLIENT_SIDE_APPLY = 256 * 1024
"""Bytes of the annotation in which `kubectl apply` keeps a whole object."""


def schema() -> dict[str, Any]:
    root: dict[str, Any] = fine_tune_job_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
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


def test_it_is_small() -> None:
    assert len(render(fine_tune_job_crd())) < CLIENT_SIDE_APPLY / 2


@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_is_described(part: str) -> None:
    fields = dict(nodes(schema()["properties"][part], part))
    assert len(fields) > 30
    bare = [path for path, node in fields.items() if not node.get("description") and not path.endswith("[]")]
    assert bare == []


def test_it_is_structural() -> None:
    for path, node in nodes(schema(), ""):
        odd = node.keys() & {"$ref", "$defs", "oneOf", "allOf", "const", "title", "exclusiveMin"}
        assert not odd, f"{path}: {odd}"
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path


def test_lists_and_texts_are_bounded_so_that_rules_stay_cheap() -> None:
    for path, node in nodes(schema()["properties"]["spec"], "spec"):
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, path
