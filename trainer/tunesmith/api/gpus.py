"""The GPUs of a job, read from its spec as the API server has it, without the models."""

from collections.abc import Mapping
from typing import Any


def requested_gpus(spec: Mapping[str, Any]) -> int:
    """The GPUs of all workers."""
    scaling = spec.get("scaling") or {}
    return int((scaling.get("resources") or {}).get("nvidia.com/gpu", 0)) * int(scaling.get("workers", 1))
