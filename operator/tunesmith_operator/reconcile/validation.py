"""What must be there before an attempt can start: an image, claims, ConfigMaps, the model of another job."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.api.outcome import Overrides, PastAttempt
from tunesmith.api.pod import Tracing, cluster_run_path
from tunesmith.api.source import Location
from tunesmith.api.status import Attempt
from tunesmith_operator.job import Job, Run
from tunesmith_operator.observed import ConfigMap, Model, Object, Observed, Reference
from tunesmith_operator.reconcile.decision import Decision
from tunesmith_operator.settings import Settings
from tunesmith_operator.trace_ids import attempt_span, owner_span

_MESSAGE_KEPT = 1024
"""Characters of an attempt's end that later ones are told."""


@dataclass(frozen=True)
class Obstacle:
    """Why an attempt cannot start."""

    reason: str
    message: str
    waiting: bool = False
    """It will pass by itself: another job is not ready yet."""
    final: bool = False
    """It will not pass."""


def plan_run(
    job: Job,
    number: int,
    overrides: Overrides,
    attempts: Sequence[Attempt],
    seen: Observed,
    settings: Settings,
    evaluation: int = 0,
) -> Run | Obstacle:
    """The attempt as it would run, from the spec, the settings and what earlier attempts have fixed.

    Args:
        job: whose attempt it is.
        number: its number.
        overrides: what it changes in the spec.
        attempts: all that are known; those before it go into its RunConfig.
        seen: what there is.
        settings: the operator's.
        evaluation: which try of the evaluation it is, counted from 1; 0 for an attempt.
    """
    if (refused := _foreign_metric(job, settings)) is not None:
        return refused
    image = job.spec.runtime.image or settings.image
    if not image:
        return Obstacle("MissingImage", "set spec.runtime.image: the operator has no default for it")
    folder = _pinned_folder(seen.body) or run_folder(seen.body, settings)
    if folder is None:
        return Obstacle("MissingStorage", "set spec.storage: the operator has no default claim for it")
    found = {place: _model(place, job, seen, settings) for place in job.spec.model_sources}
    compared = {name: _run_of(place, name, job, seen, settings) for place, name in _compared_jobs(job).items()}
    obstacles = [each for each in (*found.values(), *compared.values()) if isinstance(each, Obstacle)]
    if obstacles:
        return next((obstacle for obstacle in obstacles if obstacle.final), obstacles[0])
    models = {job.spec.model_sources[place]: each for place, each in found.items() if isinstance(each, Model)}
    runs = {name: each for name, each in compared.items() if isinstance(each, Model)}
    tracing = None
    if settings.tracing_endpoint:
        within = owner_span(seen.body) if evaluation else attempt_span(seen.body, number)
        tracing = Tracing(endpoint=settings.tracing_endpoint, traceparent=within)
    past = tuple(_past(attempt) for attempt in attempts if attempt.number < number)
    return Run(job, number, overrides, folder, models, image, past, runs, settings.metric_modules, tracing, evaluation)


def _past(attempt: Attempt) -> PastAttempt:
    """Without its times: a plan that is made again after a crash must be the same."""
    message = (attempt.message or "")[:_MESSAGE_KEPT]
    return PastAttempt(number=attempt.number, reason=attempt.reason or "", message=message, overrides=attempt.overrides)


def _foreign_metric(job: Job, settings: Settings) -> Obstacle | None:
    """A metric of the user's whose module is not allowed here: its code would run in the pods."""
    for index, metric in enumerate(job.spec.evaluation.own if job.spec.evaluation is not None else ()):
        module = metric.function.partition(":")[0]
        if not any(module == allowed or module.startswith(f"{allowed}.") for allowed in settings.metric_modules):
            listing = ", ".join(settings.metric_modules) or "none"
            text = (
                f"spec.evaluation.own[{index}].function: module {module} is not allowed here (allowed: {listing}); ask "
                "whoever runs the operator to add it to evaluation.metricModules of the chart"
            )
            return Obstacle("MetricNotAllowed", text, final=True)
    return None


def missing(run: Run, seen: Observed, decision: Decision) -> Obstacle | None:
    """Whether an object that the run mounts is not there; asks for a look where that is not known."""
    references = [Reference("PersistentVolumeClaim", claim) for claim in run.claims]
    references += [Reference("ConfigMap", name) for name in run.config_maps]
    unknown = [reference for reference in references if reference not in seen.references]
    if unknown:
        decision.look_up(unknown)
        return None
    for reference in references:
        if not seen.references[reference]:
            where = f"{reference.kind} {reference.name} in namespace {run.job.namespace}"
            return Obstacle(f"Missing{reference.kind}", f"there is no {where}: create it, or name another in the spec")
    return None


def report(obstacle: Obstacle, decision: Decision, settings: Settings) -> None:
    """Says what is in the way; ends the job where that will not pass."""
    if obstacle.waiting:
        decision.set("Validated", "Unknown", obstacle.reason, obstacle.message, tell="Normal")
    else:
        decision.set("Validated", "False", obstacle.reason, obstacle.message, tell="Warning")
    if obstacle.final:
        decision.fail(obstacle.reason, obstacle.message)
    else:
        decision.again_in(settings.recheck_seconds)


def run_folder(body: Object, settings: Settings) -> str | None:
    """The address of a job's folder; None where nothing says on which claim."""
    storage = body["spec"].get("storage", {}).get("persistentVolumeClaim", {})
    claim = storage.get("claimName") or settings.storage_claim
    meta = body["metadata"]
    return f"pvc://{claim}/{cluster_run_path(meta['namespace'], meta['name'], meta['uid'])}" if claim else None


def _pinned_folder(body: Object) -> str | None:
    """The folder that the first attempt began; the settings may have changed since."""
    folder: str | None = (body.get("status") or {}).get("artifacts", {}).get("folder")
    return folder


def newest_config_map(job: Job, config_maps: Mapping[str, ConfigMap]) -> ConfigMap | None:
    """The record of what the last attempt ran."""
    own = [config_map for config_map in config_maps.values() if config_map.meta.owner == job.uid]
    return max(own, key=lambda config_map: config_map.meta.attempt, default=None)


def _model(place: str, job: Job, seen: Observed, settings: Settings) -> Model | Obstacle:
    """The model whose address stands in a field of the spec."""
    address, name = job.spec.model_sources[place], job.spec.model_jobs.get(place)
    if name is None:
        return Model(address)
    if (record := newest_config_map(job, seen.config_maps)) is not None and address in record.models:
        return record.models[address]
    other = seen.jobs.get(name)
    if other is None or other["metadata"].get("deletionTimestamp"):
        text = f"waits for FineTuneJob {name}, which is not there: create it, or correct {place}"
        return Obstacle("WaitingForJob", text, waiting=True)
    conditions = {c["type"]: c["status"] for c in (other.get("status") or {}).get("conditions", ())}
    if conditions.get("Failed") == "True":
        text = f"FineTuneJob {name}, whose model is needed ({place}), has failed: make a new one, then this one again"
        return Obstacle("ModelJobFailed", text, final=True)
    folder = _pinned_folder(other) or run_folder(other, settings)
    if conditions.get("Complete") != "True" or folder is None:
        return Obstacle("WaitingForJob", f"waits until FineTuneJob {name} is complete", waiting=True)
    return Model(f"{folder}/model", tuple(sorted(set(_claims_behind(name, seen, settings, set())))))


def _compared_jobs(job: Job) -> dict[str, str]:
    """The names of the jobs that the evaluation compares with, by the field."""
    compared = job.spec.evaluation.compare_with if job.spec.evaluation is not None else ()
    locations = {f"spec.evaluation.compareWith[{i}]": Location.parse(uri) for i, uri in enumerate(compared)}
    return {place: location.name for place, location in locations.items() if location.scheme == "job"}


def _run_of(place: str, name: str, job: Job, seen: Observed, settings: Settings) -> Model | Obstacle:
    """The run folder of a job that was evaluated; it may have failed at its gates since."""
    if (record := newest_config_map(job, seen.config_maps)) is not None and name in record.runs:
        return record.runs[name]
    if name == job.name:
        return Obstacle("ComparedWithItself", f"{place} is this job: name another one", final=True)
    other = seen.jobs.get(name)
    if other is None or other["metadata"].get("deletionTimestamp"):
        text = f"waits for FineTuneJob {name}, which is not there: create it, or correct {place}"
        return Obstacle("WaitingForJob", text, waiting=True)
    status = other.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    folder = _pinned_folder(other)
    if status.get("evaluation") and folder is not None:
        return Model(folder, (Location.parse(folder).name,))
    if conditions.get("Failed") == "True":
        text = f"FineTuneJob {name} ({place}) has failed before it was evaluated: make a new one, then this one again"
        return Obstacle("ComparedJobFailed", text, final=True)
    if conditions.get("Complete") == "True":
        text = f"FineTuneJob {name} ({place}) has no evaluation: evaluate its model in another job"
        return Obstacle("ComparedJobNotEvaluated", text, final=True)
    return Obstacle("WaitingForJob", f"waits until FineTuneJob {name} ({place}) is evaluated", waiting=True)


def _claims_behind(name: str, seen: Observed, settings: Settings, visited: set[str]) -> Iterator[str]:
    """The claims of a job and of those it builds on: its model may be an adapter that points to a base elsewhere."""
    body = seen.jobs.get(name)
    if body is None or name in visited:
        return
    folder = _pinned_folder(body) or run_folder(body, settings)
    source = body["spec"]["model"].get("source")
    for address in filter(None, (folder, source)):
        location = Location.parse(address)
        if location.scheme == "pvc":
            yield location.name
        if location.scheme == "job":
            yield from _claims_behind(location.name, seen, settings, visited | {name})
