"""Puts what pydantic finds into the words of the API server, with the place and what may have been meant."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from tunesmith.api.problem import Problem


def explain(model: type[BaseModel], details: ErrorDetails) -> Problem:
    """The problem in an error of a model's validation."""
    path = list(_path(details["loc"]))
    context = details.get("ctx", {})
    place = ".".join(path).replace(".[", "[")
    if details["type"] == "rule":
        return Problem(str(context["text"]), ".".join(filter(None, (place, str(context["field"])))))
    if details["type"] == "extra_forbidden":
        return Problem(_unknown_field(model, details["loc"]), place)
    return Problem(_sentence(details), place)


def _path(loc: tuple[int | str, ...]) -> Iterator[str]:
    for part in loc:
        yield f"[{part}]" if isinstance(part, int) else part


def _unknown_field(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    known = _fields_at(model, [part for part in loc[:-1] if isinstance(part, str)])
    close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.6)
    lowered = {name.lower().replace("_", ""): name for name in known}
    same = lowered.get(str(loc[-1]).lower().replace("_", "").replace("-", ""))
    if same or close:
        return f"unknown field; did you mean {same or close[0]}?"
    return f"unknown field; known: {', '.join(known)}"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == part), None)
        inner = next(_models_in(field.annotation), None) if field else None
        model = inner or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _sentence(details: ErrorDetails) -> str:
    """Pydantic's message in the API server's words, with the value where it is short."""
    context, given = details.get("ctx", {}), details["input"]
    names = {"string_type": "string", "int_type": "integer", "float_type": "number", "bool_type": "boolean"}
    names |= {"list_type": "array", "dict_type": "object", "model_type": "object", "model_attributes_type": "object"}
    names |= {"int_from_float": "integer"}
    match details["type"]:
        case "missing":
            return "required"
        case "greater_than":
            text = f"should be greater than {context['gt']:.12g}"
        case "greater_than_equal":
            text = f"should be greater than or equal to {context['ge']:.12g}"
        case "less_than":
            text = f"should be less than {context['lt']:.12g}"
        case "less_than_equal":
            text = f"should be less than or equal to {context['le']:.12g}"
        case "literal_error":
            close = difflib.get_close_matches(str(given), re.findall(r"'([^']*)'", str(context["expected"])), n=1)
            text = f"should be one of {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')}"
            text += f"; did you mean {close[0]}?" if close else ""
        case kind if kind in names:
            text = f"should be of type {names[kind]}"
        case _:
            text = details["msg"].replace("Input should", "should").replace("String should", "should")
    return f"{text} (is {given!r})" if isinstance(given, str | int | float) and len(repr(given)) <= 60 else text
