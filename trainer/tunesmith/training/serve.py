"""Serves what a run tells: `/metrics` is Prometheus text, `/progress` a Progress, which the operator copies into the
job's status."""

import logging
from collections.abc import Callable
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from tunesmith.api.status import Progress

log = logging.getLogger(__name__)


def serve(port: int, registry: CollectorRegistry, progress: Callable[[], Progress | None]) -> None:
    """Answers from a thread, on all addresses of the pod.

    A port that is taken is told in the log: nobody would give up a training for that.

    Args:
        port: to listen on.
        registry: of the metrics.
        progress: how far the run is; None before the first step.
    """
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/progress":
            return metrics(environ, start_response)
        now = progress()
        if now is None:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"no step is finished yet\n"]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [now.model_dump_json(exclude_none=True).encode()]

    try:
        server = make_server("", port, application, server_class=WSGIServer, handler_class=_QuietHandler)
    except OSError as error:
        log.warning("port %d cannot be served (%s): this run has no metrics and no live progress", port, error.strerror)
        return
    Thread(target=server.serve_forever, daemon=True, name="telemetry").start()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the overridden method
        pass
