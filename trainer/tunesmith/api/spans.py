"""Spans for OpenTelemetry, where an endpoint is set; elsewhere all of this does nothing and imports nothing.

Whether somebody takes them is none of a run's business: they leave from a thread of their own, and those that nobody
takes are dropped.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from threading import Thread
from typing import Any

from pydantic import ValidationError

from tunesmith.api.pod import Tracing

log = logging.getLogger(__name__)

TRAINER, OPERATOR = "tunesmith-trainer", "tunesmith-operator"
"""The services that send spans."""
ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Names the endpoint where none is configured; OpenTelemetry's own name for it."""
_SEND_S = 5.0
"""How long a batch may take, tries included."""
_LAST_SEND_S = 2.0
"""How long the end of a process may wait for its last spans."""
_GIVEN_UP_S = 0.5
"""The same where nobody took the spans before."""

Attributes = Mapping[str, str | int | float]
Note = Callable[[Attributes], None]
"""Adds attributes to a span."""


@dataclass(frozen=True)
class _Sending:
    """Where this process sends spans to."""

    endpoint: str
    provider: Any
    processor: Any
    exporter: Any
    tracer: Any
    parent: Any
    """The context of spans that are within no other one of this process."""


@dataclass(frozen=True)
class Finished:
    """A span that somebody else knows to be over, with ids of their choice."""

    name: str
    traceparent: str
    """Its own ids."""
    parent: str | None
    """Those of the span that it is part of, as a traceparent."""
    start: float
    """Seconds since the epoch."""
    end: float
    attributes: Attributes
    error: str | None = None
    """What went wrong."""


_sending: _Sending | None = None
"""One endpoint a process."""


def about_run(namespace: str | None, job: str, attempt: int | None = None) -> Attributes:
    """What all spans of a run's process carry."""
    about = {"k8s.namespace.name": namespace, "tunesmith.job": job, "tunesmith.attempt": attempt}
    return {name: value for name, value in about.items() if value is not None}


def tracing_of(environment: Mapping[str, str]) -> Tracing | None:
    """What the environment says of an endpoint."""
    endpoint = environment.get(ENDPOINT_VARIABLE, "")
    try:
        return Tracing(endpoint=endpoint.rstrip("/")) if endpoint else None
    except ValidationError:
        log.warning("%s is %r, no http:// or https:// URL: there are no traces", ENDPOINT_VARIABLE, endpoint)
        return None


@contextmanager
def sending_spans(tracing: Tracing | None, service: str, about: Attributes) -> Iterator[None]:
    """Sends the spans of what is done within, by all threads of this process.

    Args:
        tracing: where to; None for nowhere. A process that sends already goes on, below this traceparent.
        service: what the process is.
        about: what all its spans are about.
    """
    global _sending
    before = _sending
    if tracing is None or (before is None and not _installed(tracing)):
        yield
        return
    mine = before or _start(tracing.endpoint, service, about)
    _sending = replace(mine, parent=_context(tracing.traceparent))
    try:
        yield
    finally:
        _sending = before
        if before is None:
            _end(mine)


@contextmanager
def span(name: str, attributes: Attributes | None = None, link: str | None = None) -> Iterator[Note]:
    """What is done within is a span, part of the one that it is within.

    Args:
        name: one of few.
        attributes: what it is about.
        link: the traceparent of a span in another trace that it has to do with.
    """
    if _sending is None:
        yield _ignore
        return
    from opentelemetry import trace

    inside = trace.get_current_span().get_span_context().is_valid
    links = [trace.Link(trace.get_current_span(_context(link)).get_span_context())] if link else []
    parent = None if inside else _sending.parent
    # the text of an exception is the log's
    with _sending.tracer.start_as_current_span(
        name, parent, attributes=attributes, links=links, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield made.set_attributes
        except BaseException as error:
            made.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
            raise


def tell(finished: Finished) -> None:
    """Sends a span that somebody else knows of."""
    if _sending is None:
        return
    from opentelemetry import trace
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    def ids(traceparent: str | None) -> Any:
        return trace.get_current_span(_context(traceparent)).get_span_context() if traceparent else None

    failed = trace.Status(trace.StatusCode.ERROR, finished.error) if finished.error else trace.Status()
    _sending.processor.on_end(
        ReadableSpan(
            name=finished.name,
            context=ids(finished.traceparent),
            parent=ids(finished.parent),
            resource=_sending.provider.resource,
            attributes=dict(finished.attributes),
            status=failed,
            start_time=int(finished.start * 1e9),
            end_time=int(finished.end * 1e9),
            instrumentation_scope=InstrumentationScope("tunesmith"),
        )
    )


def tracing_here() -> Tracing | None:
    """What another process needs, so that its spans become part of the one that this is within."""
    if _sending is None:
        return None
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    inside = trace.get_current_span().get_span_context().is_valid
    carrier = dict[str, str]()
    TraceContextTextMapPropagator().inject(carrier, None if inside else _sending.parent)
    return Tracing(endpoint=_sending.endpoint, traceparent=carrier.get("traceparent"))


def _ignore(attributes: Attributes) -> None:
    """Of a span that is none."""


def _installed(tracing: Tracing) -> bool:
    there = find_spec("opentelemetry") is not None and find_spec("opentelemetry.exporter") is not None
    if not there:
        log.warning("no traces for %s: OpenTelemetry is not here, see tunesmith[tracing]", tracing.endpoint)
    return there


def _context(traceparent: str | None) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent} if traceparent else {})


def _start(endpoint: str, service: str, about: Attributes) -> _Sending:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

    for name in (trace_exporter.__name__, "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).addFilter(_SAID)

    class Exporter(trace_exporter.OTLPSpanExporter):
        """Says once that nobody takes the spans, until somebody does."""

        failing = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = super().export(spans)
            failed = result is not SpanExportResult.SUCCESS
            if failed and not self.failing:
                log.warning("traces are dropped while %s does not take them: %s", endpoint, _SAID.last)
            self.failing = failed
            return result

    provider = TracerProvider(resource=Resource.create({"service.name": service, **about}), shutdown_on_exit=False)
    exporter = Exporter(endpoint=f"{endpoint}/v1/traces", timeout=_SEND_S)
    processor = BatchSpanProcessor(exporter)
    provider.add_span_processor(processor)
    return _Sending(endpoint, provider, processor, exporter, provider.get_tracer("tunesmith"), None)


class _Said(logging.Filter):
    """Keeps what the exporter says of each failure from the log, but for the last."""

    last = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.last = record.getMessage()
        return False


_SAID = _Said()


def _end(mine: _Sending) -> None:
    """Sends what is left, as far as that is quick."""
    ending = Thread(target=mine.provider.shutdown, name="last spans", daemon=True)
    ending.start()
    ending.join(_GIVEN_UP_S if mine.exporter.failing else _LAST_SEND_S)
    if ending.is_alive():
        mine.exporter.shutdown()
        ending.join(_GIVEN_UP_S)
