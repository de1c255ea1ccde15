"""A collector of OpenTelemetry's: takes spans over OTLP/HTTP, as the protocol's own messages."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Received:
    """A span as it came."""

    name: str
    trace: str
    id: str
    parent: str
    """Empty of a trace's first span."""
    attributes: dict[str, Any]
    """Its own and those of who sent it."""
    links: list[tuple[str, str]]
    """Trace and span."""
    error: str | None
    start: float
    end: float


@dataclass
class Collector:
    """What has come so far."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    status: int = 200
    """What it answers."""
    asked: int = 0
    """How often it has answered."""

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Received:
        (span,) = self.named(name)
        return span

    def await_that(self, condition: Callable[["Collector"], bool], patience_s: float = 10.0) -> None:
        end = time.monotonic() + patience_s
        while not condition(self):
            assert time.monotonic() < end, [span.name for span in self.spans]
            time.sleep(0.02)

    def take(self, body: bytes) -> None:
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in sent.scope_spans:
                self.spans += [_received(span, [*sent.resource.attributes, *span.attributes]) for span in scope.spans]


def _received(span: Any, attributes: list[Any]) -> Received:
    return Received(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes={each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes},
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        error=span.status.message if span.status.code == 2 else None,
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    """Runs one on a port of its own."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces" and collector.status == 200:
                collector.take(body)
            self.send_response(collector.status if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            collector.asked += 1

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
