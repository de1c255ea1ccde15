"""Reads job files, and turns whatever is wrong with them into one clear line each."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tunesmith.api.base import API_VERSION, Schema
from tunesmith.api.job import FineTuneJob, FineTuneJobSpec
from tunesmith.api.trials import extremes, field_problem, with_values

Where = Literal["local", "cluster"]


@dataclass(frozen=True)
class Problem:
    """Something that the user can mend."""

    message: str
    place: str = ""
    """A field's path, or a file."""
    line: int | None = None
    file: str = ""

    def __str__(self) -> str:
        position = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (position, self.place, self.message) if part)


class InputError(Exception):
    """The user's input is wrong; `str` gives one line for each problem."""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = [Problem(p) if isinstance(p, str) else p for p in problems]
        super().__init__("\n".join(str(p) for p in self.problems))


class _KubernetesLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: 2e-4 is a number, a key stands once."""


_KubernetesLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


@dataclass
class _Document:
    data: Any
    lines: dict[tuple[str | int, ...], int]


def load_jobs(path: Path, where: Where = "local") -> list[FineTuneJob]:
    """Reads the FineTuneJobs of a file that may hold several documents.

    Args:
        path: a YAML or JSON file.
        where: `cluster` also refuses what only `tunesmith run` accepts.

    Raises:
        InputError: with every problem of the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(Problem(f"cannot be read: {error.strerror}", file=str(path))) from None
    except UnicodeDecodeError:
        raise InputError(Problem("is not UTF-8 text; is it a YAML file?", file=str(path))) from None
    documents = [d for d in _documents(text, str(path)) if d.data is not None]
    if not documents:
        raise InputError(Problem("holds no resource; a FineTuneJob is expected", file=str(path)))
    jobs, problems = [], []
    for document in documents:
        try:
            jobs.append(_job(document, where))
        except InputError as error:
            problems += [Problem(p.message, p.place, p.line, str(path)) for p in error.problems]
    names = [job.metadata.name for job in jobs]
    problems += [
        Problem(f"{n!r} is the name of two jobs", "metadata.name", None, str(path))
        for n in set(names)
        if names.count(n) > 1
    ]
    if problems:
        raise InputError(*problems)
    return jobs


def _documents(text: str, file: str) -> Iterator[_Document]:
    loader = _KubernetesLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # as check_node has just said
            lines: dict[tuple[str | int, ...], int] = {}
            _note_lines(node, (), lines, file)
            yield _Document(loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = (error.problem or error.context or "is broken").replace("character '\\t'", "a tab")
        raise InputError(
            Problem(f"is not valid YAML: {what}", line=mark.line + 1 if mark else None, file=file)
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(Problem(f"is not valid YAML: {error}", file=file)) from None
    except RecursionError:
        raise InputError(Problem("is nested too deeply, or holds itself", file=file)) from None
    finally:
        loader.dispose()


def _note_lines(
    node: yaml.Node, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], file: str
) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(
                    Problem("is not valid YAML: a key should be a word", line=key.start_mark.line + 1, file=file)
                )
            if key.value in seen:
                raise InputError(
                    Problem("stands twice", ".".join(map(str, (*path, key.value))), key.start_mark.line + 1, file)
                )
            seen.add(key.value)
            lines[(*path, key.value)] = key.start_mark.line + 1
            _note_lines(value, (*path, key.value), lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*path, index), lines, file)


def _job(document: _Document, where: Where) -> FineTuneJob:
    data = _without_nulls(document.data)
    if not isinstance(data, dict):
        raise InputError(
            Problem("is not a Kubernetes resource: it has no apiVersion and kind", line=document.lines.get(()))
        )
    kind, api_version = data.get("kind"), data.get("apiVersion")
    if kind is None:
        raise InputError(Problem("required; known: FineTuneJob", "kind", document.lines.get(())))
    if kind != "FineTuneJob":
        guess = (
            "; did you mean FineTuneJob?" if difflib.get_close_matches(str(kind), ["FineTuneJob"], cutoff=0.5) else ""
        )
        raise InputError(
            Problem(f"unknown kind {kind!r}; known: FineTuneJob{guess}", "kind", document.lines.get(("kind",), 1))
        )
    if api_version != API_VERSION:
        raise InputError(
            Problem(
                f"should be {API_VERSION}, is {api_version!r}", "apiVersion", document.lines.get(("apiVersion",), 1)
            )
        )
    problems = check(data, where)
    if problems:
        raise InputError(*(Problem(p.message, p.place, _line(document.lines, p.place)) for p in problems))
    return FineTuneJob.model_validate(_without_status(data))


def check(data: dict[str, Any], where: Where) -> list[Problem]:
    """Every problem of a FineTuneJob given as data: what the API server's CRD and the operator would refuse."""
    try:
        job = FineTuneJob.model_validate(_without_status(data))
    except ValidationError as error:
        problems = (_problem(FineTuneJob, details) for details in error.errors(include_url=False))
        return list(dict.fromkeys(problems))
    found = list(_search_problems(data, job.spec))
    return found if where == "local" else [*found, *_cluster_problems(job, "")]


def _search_problems(data: dict[str, Any], spec: FineTuneJobSpec) -> Iterator[Problem]:
    """What is wrong with the fields of spec.search, and with each of their values, one by one."""
    for index, parameter in enumerate(spec.search.parameters if spec.search else ()):
        place = f"spec.search.parameters[{index}]"
        wrong = field_problem(spec, parameter.field)
        if wrong is not None:
            yield Problem(wrong, f"{place}.field")
            continue
        for value in extremes(spec, parameter):
            tried = {**data, "spec": with_values(data["spec"], {parameter.field: value})}
            for problem in check(tried, "local"):
                yield Problem(f"{value!r} does not go: {problem}", f"{place}.{parameter.kind}")


def _without_status(data: dict[str, Any]) -> dict[str, Any]:
    """A job as a user writes it: a status that came along, of another release perhaps, is nobody's input."""
    return {key: value for key, value in data.items() if key != "status"}


def _without_nulls(value: Any) -> Any:
    """What the API server makes of nulls: a field without a value is a field that is not there."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _cluster_problems(value: object, path: str) -> Iterator[Problem]:
    if isinstance(value, Schema):
        for rule in value.all_rules():
            if rule.where == "cluster" and not rule.holds(value):
                yield Problem(rule.message, ".".join(filter(None, (path, rule.field))))
        for name, field in type(value).model_fields.items():
            yield from _cluster_problems(getattr(value, name), ".".join(filter(None, (path, field.alias or name))))


def _line(lines: dict[tuple[str | int, ...], int], place: str) -> int | None:
    """The line of a field, or of the nearest object around it that is there."""
    keys = tuple(
        int(k) if k.isdigit() else k
        for k in place.replace("nvidia.com/gpu", "\0").replace("[", ".").replace("]", "").split(".")
    )
    keys = tuple("nvidia.com/gpu" if k == "\0" else k for k in keys)
    return next((lines[keys[:n]] for n in range(len(keys), -1, -1) if keys[:n] in lines), None)


def _problem(model: type[BaseModel], details: ErrorDetails) -> Problem:
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
