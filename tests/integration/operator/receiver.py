"""A receiver of notifications: a real server on this machine, which answers as a test says."""

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple


class Got(NamedTuple):
    """A request."""

    path: str
    content_type: str
    body: bytes


Answer = tuple[int, dict[str, str]]
"""Status and headers."""


class Receiver:
    """Serves in threads of its own; a context manager."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answer: Callable[[int], Answer | None] = lambda number: (200, {})
        """The answer to the so many-th request, counted from 1; None for none at all."""
        self._released = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(Got(self.path, self.headers["Content-Type"], body))
                answer = receiver.answer(len(receiver.got))
                if answer is None:
                    receiver._released.wait()
                    return
                self.send_response(answer[0])
                for name, value in answer[1].items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.got.append(Got(self.path, "", b"a redirect was followed"))

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.host}/secret"

    def __enter__(self) -> "Receiver":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def bodies(self) -> list[Any]:
        """What was sent, from JSON."""
        return [json.loads(got.body) for got in self.got]
