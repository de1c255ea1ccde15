"""Pods' addresses, on the loopback network: what is asked there comes from where it is really made."""

import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Source = Callable[[str], str]
"""Gives the text of a path; fails with OSError where nobody is there."""
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def served(address: str, port: int, source: Source) -> Iterator[None]:
    """Serves a source at an address and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                body = source(self.path).encode()
            except OSError:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # who asked has gone
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((address, port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def from_port(port: int) -> Source:
    """What a process serves at a port of this machine."""

    def ask(path: str) -> str:
        with _OPENER.open(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    return ask
