"""What `spec.search` makes of a spec: which fields may vary, and the spec of a trial."""

import copy
import difflib
from typing import Any, get_args

from pydantic.fields import FieldInfo

from tunesmith.api.base import Schema
from tunesmith.api.identity import RESULT_NEUTRAL
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.search import Parameter, Value

_INCOMPARABLE = ("training.maxLength", "training.seed")
"""These change which tokens the validation loss is computed on."""


def field_problem(spec: FineTuneJobSpec, field: str) -> str | None:
    """Why a field cannot vary in this job; None where it can."""
    if field.startswith("training.") and field.removeprefix("training.") in RESULT_NEUTRAL["training"]:
        return f"{field} changes memory and speed, never the result; `tunesmith find micro-batch` finds the largest"
    if field in _INCOMPARABLE:
        return f"{field} changes what the validation loss is computed on: trials could not be compared"
    if field.startswith("training.checkpoint."):
        return f"{field} changes when the trials are compared; set it for all of them"
    at: Any = spec
    path = field.split(".")
    for depth, name in enumerate(path):
        if not isinstance(at, Schema):
            return f"{'.'.join(path[:depth])} is {at!r} in this job: there is no field {name} in it"
        known = {info.alias or key: key for key, info in type(at).model_fields.items()}
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            return f"{'.'.join(path[:depth]) or 'spec'} has no field {name}; {hint}"
        inner = getattr(at, known[name])
        if inner is None and depth < len(path) - 1:
            return f"{'.'.join(path[: depth + 1])} is not set in this job; set it, or name another field"
        at = inner
    return f"{field} holds several fields; name one of them" if isinstance(at, Schema) else None


def takes_integers(spec: FineTuneJobSpec, field: str) -> bool:
    """Whether a field that may vary takes whole numbers only."""
    at: Any = spec
    info: FieldInfo | None = None
    for name in field.split("."):
        key = next(k for k, i in type(at).model_fields.items() if (i.alias or k) == name)
        info, at = type(at).model_fields[key], getattr(at, key)
    assert info is not None
    kinds = _plain_types(info.annotation)
    return int in kinds and float not in kinds


def _plain_types(annotation: Any) -> set[Any]:
    inner = [_plain_types(a) for a in get_args(annotation) if isinstance(a, type) or get_args(a)]
    return set().union(*inner) if inner else {annotation}


def extremes(spec: FineTuneJobSpec, parameter: Parameter) -> list[Value]:
    """The values of a list, or the ends of a range: if these are valid, all are."""
    if parameter.range is None:
        return parameter.listed
    ends = (parameter.range.low, parameter.range.high)
    if takes_integers(spec, parameter.field) and all(end.is_integer() for end in ends):
        return [int(end) for end in ends]
    return list(ends)


def with_values(spec: dict[str, Any], values: dict[str, Value]) -> dict[str, Any]:
    """A spec, as data, with some fields set and without its search."""
    changed = copy.deepcopy({key: value for key, value in spec.items() if key != "search"})
    for field, value in values.items():
        *parents, name = field.split(".")
        at = changed
        for parent in parents:
            at = at.setdefault(parent, {})
        at[name] = value
    return changed


def trial_spec(spec: FineTuneJobSpec, values: dict[str, Value]) -> FineTuneJobSpec:
    """The spec that a trial trains by; it is not evaluated, since only the best model is.

    Raises:
        pydantic.ValidationError: the values do not go together.
    """
    changed = with_values(spec.model_dump(mode="json", exclude_none=True), values)
    changed.pop("evaluation", None)
    return FineTuneJobSpec.model_validate(changed)
