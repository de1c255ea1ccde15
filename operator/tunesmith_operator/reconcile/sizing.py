"""Warns of a job that cannot fit into the memory that it asks for; it is started all the same: an estimate may err."""

from pydantic import ValidationError

from tunesmith.api.architecture import Architecture
from tunesmith.api.fitting import change_that_fits
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.quantity import parse_quantity
from tunesmith.api.sizing import GIB, estimate
from tunesmith_operator.job import Job
from tunesmith_operator.observed import Observed
from tunesmith_operator.reconcile.decision import Decision


def warn(job: Job, seen: Observed, decision: Decision) -> None:
    """Tells of a job whose estimate exceeds its memory limit. A GPU's memory is not known here, nor a model of which
    only the address is."""
    resources = job.spec.scaling.resources
    model = _architecture(job.spec, seen, frozenset({job.name}))
    if resources.memory is None or resources.gpu is not None or model is None:
        return
    limit, memory = float(parse_quantity(resources.memory)), estimate(job.spec, model)
    if memory.total <= limit:
        return
    change = change_that_fits(job.spec, model, limit)
    text = f"a worker takes about {memory.total / GIB:.1f} GiB, but scaling.resources.memory is {resources.memory}; "
    decision.tell("WontFit", text + str(change or "raise it"), warning=True, key="memory")


def _architecture(spec: FineTuneJobSpec, seen: Observed, visited: frozenset[str]) -> Architecture | None:
    """The model's dimensions, where they are in this job or in one that it builds on."""
    if spec.model.config is not None:
        return Architecture.of_new_model(spec.model.config)
    name = spec.model.job
    other = seen.jobs.get(name) if name is not None and name not in visited else None
    if name is None or other is None:
        return None
    try:
        theirs = FineTuneJobSpec.model_validate(other["spec"])
    except ValidationError:  # of another release, which is no reason not to start this job
        return None
    return _architecture(theirs, seen, visited | {name})
