"""The page that raters use: a small server of the standard library, for one machine or a trusted network.

    GET  /TOKEN/             the page, and its style and script beside it
    GET  /TOKEN/set          what is asked, and what this rater has answered
    GET  /TOKEN/item/N       one prompt with its answers
    POST /TOKEN/answer       {"item": N, "value": "..."}; answered once it is on the disk

The token is a rater's own, new at each start: who does not know it gets nothing. Requests of other pages are refused by
their Origin, and names that were bent to this address by their Host. The key is never opened here.
"""

import ipaddress
import json
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

from tunesmith.review.folder import Item, RaterFile, SetInfo
from tunesmith.review.kinds import CHOICES, LETTERS, QUESTIONS, parse

_LONGEST_REQUEST = 4096
_IDLE_S = 60
_PAGE = {"": "page.html", "page.css": "page.css", "page.js": "page.js"}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RefusedError(Exception):
    """A request that is not answered."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ReviewServer(ThreadingHTTPServer):
    """Serves a set to its raters."""

    daemon_threads = True

    def __init__(
        self, host: str, port: int, info: SetInfo, items: Sequence[Item], raters: Mapping[str, RaterFile]
    ) -> None:
        """Listens; port 0 stands for any that is free.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.name = (socket.gethostname() if host in ("0.0.0.0", "::") else host).lower()
        self.info = info
        self.items = {item.item: item for item in items}
        self.raters = {secrets.token_urlsafe(18): (name, file) for name, file in raters.items()}
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking a name server for this machine's name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.name, self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed while it was sent is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def addresses(self) -> dict[str, str]:
        """The page of each rater, by name."""
        host = f"[{self.name}]" if ":" in self.name else self.name
        return {name: f"http://{host}:{self.server_port}/{token}/" for token, (name, _) in self.raters.items()}

    def rater(self, token: str) -> tuple[str, RaterFile] | None:
        """Whose token this is."""
        for known, rater in self.raters.items():
            if secrets.compare_digest(known.encode(), token.encode()):
                return rater
        return None

    def knows_host(self, host: str) -> bool:
        """Whether a name is one of this server's: an address, localhost, or what it was told to listen on."""
        if host in ("localhost", self.name):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    server_version = "tunesmith"
    sys_version = ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, work: Any) -> None:
        try:
            rater, path = self._admitted()
            work(rater, path)
        except RefusedError as refused:
            self.close_connection = True  # what is left of the request is not read
            self._send(refused.status, "text/plain", f"{refused}\n".encode())

    def _admitted(self) -> tuple[tuple[str, RaterFile], str]:
        """The rater who asks, and for what.

        Raises:
            RefusedError: the request comes from elsewhere.
        """
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            host = ""
        if not self.server.knows_host(host):
            raise RefusedError(HTTPStatus.FORBIDDEN, "this server is not known by that name")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            raise RefusedError(HTTPStatus.FORBIDDEN, "requests of other pages are refused")
        token, _, path = urlsplit(self.path).path.removeprefix("/").partition("/")
        rater = self.server.rater(token)
        if rater is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here: use the address that the server printed")
        return rater, path

    def _get(self, rater: tuple[str, RaterFile], path: str) -> None:
        if path in _PAGE:
            name = _PAGE[path]
            kind = _TYPES[name[name.rindex(".") :]]
            self._send(HTTPStatus.OK, kind, files("tunesmith.review").joinpath(name).read_bytes())
        elif path == "set":
            self._send_json(self._set(*rater))
        elif (number := path.removeprefix("item/")).isdecimal() and (item := self.server.items.get(int(number))):
            self._send_json(item.to_dict())
        else:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _set(self, name: str, file: RaterFile) -> dict[str, Any]:
        kind = self.server.info.kind
        return {
            "id": self.server.info.id,
            "kind": kind,
            "rater": name,
            "question": QUESTIONS[kind],
            "choices": [asdict(choice) for choice in CHOICES[kind]],
            "letters": LETTERS,
            "items": list(self.server.items),
            "given": file.given(),
        }

    def _post(self, rater: tuple[str, RaterFile], path: str) -> None:
        if path != "answer":
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        if "Origin" not in self.headers:  # browsers always name it here
            raise RefusedError(HTTPStatus.FORBIDDEN, "ratings come from the page alone")
        if self.headers.get_content_type() != "application/json":
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a rating is JSON")
        item, value = self._rating()
        try:
            given = rater[1].give(item, value)
        except OSError as error:
            raise RefusedError(HTTPStatus.INSUFFICIENT_STORAGE, f"not saved: {error.strerror}") from None
        self._send_json({"rated": len(given)})

    def _rating(self) -> tuple[int, str | None]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LONGEST_REQUEST:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a rating is shorter")
        try:
            given = json.loads(self.rfile.read(int(length)))
            item, value = given["item"], given["value"]
            if isinstance(item, bool) or not isinstance(item, int) or item not in self.server.items:
                raise ValueError("there is no such item")
            if value is None:
                return item, None
            return item, parse(self.server.info.kind, str(value), len(self.server.items[item].answers))
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"is no rating: {error}") from None

    def _send_json(self, data: Any) -> None:
        self._send(HTTPStatus.OK, "application/json", json.dumps(data).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # the name is the library's
        """Says nothing: the terminal is the rater's."""
