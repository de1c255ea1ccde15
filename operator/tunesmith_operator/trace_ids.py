"""The ids of the spans of jobs, made from uids: an operator that is started anew goes on in the same traces.

The trace of a job is its uid without hyphens; the jobs of a pipeline are in the pipeline's trace.
"""

from tunesmith_operator.kinds import PIPELINES
from tunesmith_operator.names import digest
from tunesmith_operator.observed import Object


def owner_span(body: Object) -> str:
    """The span of a job or a pipeline from its creation to its end, as a traceparent."""
    return _traceparent(body, body["metadata"]["uid"])


def attempt_span(body: Object, number: int) -> str:
    """The span of a job's attempt, likewise."""
    return _traceparent(body, f"{body['metadata']['uid']}/{number}")


def pipeline_span(body: Object) -> str | None:
    """The span of the pipeline that a job belongs to, likewise."""
    pipeline = _pipeline(body)
    return None if pipeline is None else _traceparent(body, pipeline)


def _traceparent(body: Object, part: str) -> str:
    """W3C Trace Context: version, trace, span, sampled."""
    trace = (_pipeline(body) or body["metadata"]["uid"]).replace("-", "")
    return f"00-{trace}-{digest(part, 16)}-01"


def _pipeline(body: Object) -> str | None:
    """The uid of the pipeline that controls a job."""
    owners = body["metadata"].get("ownerReferences", ())
    return next((own["uid"] for own in owners if own.get("controller") and own["kind"] == PIPELINES.name), None)
