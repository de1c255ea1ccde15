"""The identity of a run: a hash of everything in a spec that decides its result."""

import hashlib
import json
from typing import Any

from tunesmith.api.job import IMMUTABLE_FIELDS, FineTuneJobSpec

RESULT_NEUTRAL = {
    "training": ("microBatchSize", "packing", "gradientCheckpointing", "logEverySteps"),
    "search": ("concurrency",),
}
"""Fields that change memory and speed only, so that a run may resume with other values."""


def identity_fields(spec: FineTuneJobSpec) -> dict[str, Any]:
    """The part of a spec that decides the result, defaults filled in."""
    full = spec.model_dump(mode="json")
    fields = {name: full[name] for name in IMMUTABLE_FIELDS}
    for name, neutral in RESULT_NEUTRAL.items():
        if fields[name] is not None:
            fields[name] = {key: value for key, value in fields[name].items() if key not in neutral}
    return fields


def identity_hash(spec: FineTuneJobSpec) -> str:
    """SHA-256 of `identity_fields` in canonical JSON, as 64 hex digits."""
    return hashlib.sha256(json.dumps(identity_fields(spec), sort_keys=True).encode()).hexdigest()


def differing_fields(mine: dict[str, Any], theirs: dict[str, Any], prefix: str = "spec") -> list[str]:
    """The paths at which two results of `identity_fields` differ."""
    paths: list[str] = []
    for key in sorted(mine.keys() | theirs.keys()):
        left, right = mine.get(key), theirs.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            paths += differing_fields(left, right, f"{prefix}.{key}")
        elif left != right:
            paths.append(f"{prefix}.{key}")
    return paths
