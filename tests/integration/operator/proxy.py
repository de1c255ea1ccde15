"""Stands between the operator and the API server: counts what is written, and can interfere at any write."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web

from ..process import free_ports

WRITES = ("POST", "PUT", "PATCH", "DELETE")
_HOP = ("host", "content-length", "transfer-encoding", "content-encoding", "connection")


class Proxy:
    """A reverse proxy in a thread of its own; a context manager."""

    def __init__(self, server: str, ca: Path) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.writes: list[str] = []
        """Verb and path of each write that the API server has accepted."""
        self.on_write: Callable[[int], None] = lambda number: None
        """Called with the number of writes when one is done, before the operator hears of it."""
        self.freezes_watches = False
        self._server, self._ca, self._port = server, ca, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self._stop = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        tls = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=self._ca))
        async with aiohttp.ClientSession(connector=tls, auto_decompress=False) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            self._started.set()
            await self._stop.wait()
            await runner.cleanup()
        await asyncio.sleep(0.2)  # aiohttp closes TLS connections a moment later

    def _path_of(self, request: web.Request) -> str:
        """What the API server is asked."""
        return request.raw_path

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = self._server + self._path_of(request)
        body, timeout = await request.read() or None, aiohttp.ClientTimeout(total=None)
        async with self._session.request(request.method, url, headers=headers, data=body, timeout=timeout) as answer:
            if request.method in WRITES and answer.ok:
                self.writes.append(f"{request.method} {request.path}")
                self.on_write(len(self.writes))
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP[1:3]}
            passed = web.StreamResponse(status=answer.status, headers=kept)
            watches = "watch=true" in request.query_string
            with contextlib.suppress(ConnectionError):
                await passed.prepare(request)
                async for chunk in answer.content.iter_any():
                    while watches and self.freezes_watches:
                        await asyncio.sleep(0.05)
                    await passed.write(chunk)
                await passed.write_eof()
            return passed
