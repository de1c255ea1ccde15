"""Stands between the command line and the API server: breaks connections, and plays the kubelet's logs."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from aiohttp import web

from ..controlplane import ControlPlane
from ..operator.proxy import Proxy

_FROM = datetime(2026, 11, 27, 10, 0, 0, tzinfo=UTC)


class Gateway(Proxy):
    """A proxy that can do harm; a context manager."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        super().__init__(plane.server, plane.folder / "apiserver.crt")
        self._plane, self._folder = plane, folder
        self.reads: list[str] = []
        """Path and query of each request."""
        self.logs: dict[str, list[str]] = {}
        """The lines of each pod, a second between them."""
        self.ended: set[str] = set()
        """The pods that write no more."""
        self.hides: str = ""
        """What paths hold that lead nowhere."""
        self._is_outdated = False
        self._open: dict[int, web.Request] = {}

    def kubeconfig(self, of: Path | None = None) -> Path:
        """A kubeconfig, the administrator's by default, that leads through here."""
        config = yaml.safe_load((of or self._plane.kubeconfig).read_text())
        config["clusters"][0]["cluster"] = {"server": self.url}
        path = self._folder / f"gateway-{(of or self._plane.kubeconfig).name}"
        path.write_text(yaml.safe_dump(config))
        return path

    def cut(self, outdated: bool = False) -> None:
        """Breaks all watches and logs that are read.

        Args:
            outdated: the watches that follow ask for what the API server has forgotten.
        """
        self._is_outdated = outdated
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for request in list(self._open.values()):
            if request.transport is not None:
                request.transport.abort()

    def _path_of(self, request: web.Request) -> str:
        if self.hides and self.hides in request.path:
            return "/apis/nothing.dev/v1/things"
        if self._is_outdated and "watch" in request.query:
            self._is_outdated = False
            return str(request.rel_url.update_query(resourceVersion="1"))
        return request.raw_path

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self.reads.append(request.raw_path)
        streams = "watch" in request.query or "follow" in request.query
        if streams:
            self._open[id(request)] = request
        try:
            if request.path.endswith("/log"):
                return await self._log(request)
            return await super()._forward(request)
        finally:
            self._open.pop(id(request), None)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        pod, query = request.path.split("/")[-2], request.query
        if pod not in self.logs:
            return web.json_response({"message": f"no log of {pod}"}, status=404)
        answer = web.StreamResponse()
        with contextlib.suppress(ConnectionError):
            await answer.prepare(request)
            sent = max(0, len(self.logs[pod]) - int(query["tailLines"])) if "tailLines" in query else 0
            while True:
                for line in self.logs[pod][sent:]:
                    stamp = (_FROM + timedelta(seconds=sent)).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
                    sent += 1
                    if stamp >= query.get("sinceTime", ""):
                        await answer.write(
                            f"{stamp} {line}\n".encode() if "timestamps" in query else f"{line}\n".encode()
                        )
                if "follow" not in query or pod in self.ended:
                    break
                await asyncio.sleep(0.05)
            await answer.write_eof()
        return answer


def json_line(message: str, **fields: object) -> str:
    """A line of the trainer's log."""
    record = {"time": "2026-11-27T10:00:00+00:00", "level": "INFO", "logger": "tunesmith", "message": message}
    return json.dumps(record | fields)
