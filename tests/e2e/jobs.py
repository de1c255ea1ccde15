"""The sample jobs, and variations of them."""

from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster import Object

SAMPLES = Path(__file__).resolve().parents[2] / "manifests" / "samples" / "cluster"


def sample(file: str) -> Object:
    """The FineTuneJob of a sample."""
    job: Object = yaml.safe_load((SAMPLES / file).read_text(encoding="utf-8"))
    return job


def variation(file: str, name: str, **changes: Any) -> Object:
    """A sample under another name, with some fields of parts of its spec replaced, or without a part (None)."""
    job = sample(file)
    job["metadata"]["name"] = name
    for part, fields in changes.items():
        if fields is None:
            job["spec"].pop(part, None)
            continue
        job["spec"][part] = job["spec"].get(part, {}) | fields if isinstance(fields, dict) else fields
    return job


def evaluation_sample(job: str, name: str = "", **evaluation: Any) -> Object:
    """A job of the sample evaluation.yaml, small enough for two cores, with other settings of its evaluation."""
    file = SAMPLES.parent / "evaluation.yaml"
    found: Object = next(
        each for each in yaml.safe_load_all(file.read_text(encoding="utf-8")) if each["metadata"]["name"] == job
    )
    found["metadata"]["name"] = name or job
    found["spec"]["scaling"] = {"resources": {"cpu": "200m", "memory": "3Gi"}}
    found["spec"]["evaluation"] |= evaluation
    return found
