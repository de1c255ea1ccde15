"""Reads files of FineTuneJobs and RLHFPipelines, and finds whatever is wrong with them."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tunesmith.api.base import API_VERSION, Schema
from tunesmith.api.documents import Document, read_documents
from tunesmith.api.explain import explain
from tunesmith.api.job import FineTuneJob, FineTuneJobSpec
from tunesmith.api.objective import READS_NO_RESPONSE
from tunesmith.api.pipeline import RLHFPipeline, RLHFPipelineSpec, pipeline_place, stage_jobs, stage_spec
from tunesmith.api.problem import InputError, Problem
from tunesmith.api.reward import ENDS_IN_RESPONSE, RESPONSE, ends_in_response
from tunesmith.api.search import MOST_TRIALS
from tunesmith.api.training import TrainingSpec
from tunesmith.api.trials import extremes, field_problem, with_values

__all__ = ["InputError", "Problem", "Resource", "Where", "check", "jobs_of", "load_jobs", "load_resources"]

Where = Literal["local", "cluster"]
Resource = FineTuneJob | RLHFPipeline
_KINDS: dict[str, type[FineTuneJob] | type[RLHFPipeline]] = {
    "FineTuneJob": FineTuneJob,
    "RLHFPipeline": RLHFPipeline,
}
_KNOWN = ", ".join(_KINDS)


def load_jobs(path: Path, where: Where = "local") -> list[FineTuneJob]:
    """Reads the FineTuneJobs of a file, those of its RLHFPipelines included.

    Raises:
        InputError: with every problem of the file.
    """
    return [job for resource in load_resources(path, where) for job in jobs_of(resource)]


def jobs_of(resource: Resource) -> list[FineTuneJob]:
    """The FineTuneJobs that a resource stands for on one machine."""
    return [resource] if isinstance(resource, FineTuneJob) else stage_jobs(resource)


def load_resources(path: Path, where: Where = "local") -> list[Resource]:
    """Reads a file that may hold several documents.

    Args:
        path: a YAML or JSON file.
        where: `cluster` also refuses what only `tunesmith run` accepts.

    Raises:
        InputError: with every problem of the file.
    """
    documents = read_documents(path)
    if not documents:
        raise InputError(Problem("holds no resource; a FineTuneJob or an RLHFPipeline is expected", file=str(path)))
    resources, problems = list[Resource](), list[Problem]()
    for document in documents:
        try:
            resources.append(_resource(document, where))
        except InputError as error:
            problems += [Problem(p.message, p.place, p.line, str(path)) for p in error.problems]
    names = [job.metadata.name for resource in resources for job in jobs_of(resource)]
    problems += [
        Problem(f"{n!r} is the name of two jobs", "metadata.name", None, str(path))
        for n in sorted(set(names))
        if names.count(n) > 1
    ]
    if problems:
        raise InputError(*problems)
    return resources


def _resource(document: Document, where: Where) -> Resource:
    data = _without_nulls(document.data)
    if not isinstance(data, dict):
        raise InputError(
            Problem("is not a Kubernetes resource: it has no apiVersion and kind", line=document.line_of(""))
        )
    kind, api_version = data.get("kind"), data.get("apiVersion")
    if kind is None:
        raise InputError(Problem(f"required; known: {_KNOWN}", "kind", document.line_of("")))
    if kind not in _KINDS:
        close = difflib.get_close_matches(str(kind), _KINDS, n=1, cutoff=0.5)
        guess = f"; did you mean {close[0]}?" if close else ""
        raise InputError(Problem(f"unknown kind {kind!r}; known: {_KNOWN}{guess}", "kind", document.line_of("kind")))
    if api_version != API_VERSION:
        text = f"should be {API_VERSION}, is {api_version!r}"
        raise InputError(Problem(text, "apiVersion", document.lines.get(("apiVersion",), 1)))
    problems = check(data, where)
    if problems:
        raise InputError(*(Problem(p.message, p.place, document.line_of(p.place)) for p in problems))
    return _KINDS[kind].model_validate(_without_status(data))


def check(data: dict[str, Any], where: Where) -> list[Problem]:
    """Every problem of a resource given as data: what the API server's CRD and the operator would refuse."""
    model = _KINDS[data.get("kind", "FineTuneJob")]
    try:
        resource = model.model_validate(_without_status(data))
    except ValidationError as error:
        problems = (explain(model, details) for details in error.errors(include_url=False))
        return list(dict.fromkeys(problems))
    if isinstance(resource, RLHFPipeline):
        found = list(dict.fromkeys(_stage_problems(resource.spec)))
    else:
        found = [
            *_search_problems(data, resource.spec),
            *_wording_problems(resource.spec),
            *_idle_problems(resource.spec),
        ]
    return found if where == "local" else [*found, *_cluster_problems(resource, "")]


def _stage_problems(spec: RLHFPipelineSpec) -> Iterator[Problem]:
    """What is wrong with the jobs that a pipeline's stages become, told at the pipeline's own fields."""
    models = {stage: f"job://{stage}" for stage in spec.sources}
    for stage in spec.running_stages:
        job = {"metadata": {"name": stage}, "spec": stage_spec(spec, stage, models)}
        for problem in check(job, "local"):
            yield Problem(problem.message, pipeline_place(spec, stage, problem.place))


def _search_problems(data: dict[str, Any], spec: FineTuneJobSpec) -> Iterator[Problem]:
    """What is wrong with the fields of spec.search, and with each of their values, one by one."""
    if spec.search is not None and spec.search.count > MOST_TRIALS:
        most = f"there are {spec.search.count:,} combinations, and {MOST_TRIALS:,} trials at most"
        yield Problem(f"{most}; list fewer values, or set algorithm: random", "spec.search.parameters")
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


def _wording_problems(spec: FineTuneJobSpec) -> Iterator[Problem]:
    """What is wrong with the templates of spec.evaluation.prompts, each at its own name."""
    prompts = spec.evaluation.prompts if spec.evaluation is not None else None
    encoder = spec.objective.seq2seq is not None
    for name, template in prompts.templates.items() if prompts is not None else ():
        place = f"spec.evaluation.prompts.templates.{name}"
        if encoder and RESPONSE in template:
            yield Problem(READS_NO_RESPONSE.message, place)
        elif not encoder and not ends_in_response(template):
            yield Problem(ENDS_IN_RESPONSE.message, place)


def _idle_problems(spec: FineTuneJobSpec) -> Iterator[Problem]:
    """What is set for a training that there is none of."""
    if spec.trains:
        return
    used, given, default = ("max_length", "seed"), spec.training, TrainingSpec()
    for name, info in TrainingSpec.model_fields.items():
        if name not in used and getattr(given, name) != getattr(default, name):
            text = "nothing is trained: an evaluation alone uses only maxLength and seed of it"
            yield Problem(text, f"spec.training.{info.alias or name}")


def _without_status(data: dict[str, Any]) -> dict[str, Any]:
    """A resource as a user writes it: a status that came along, of another release perhaps, is nobody's input."""
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
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _cluster_problems(item, f"{path}[{index}]")
