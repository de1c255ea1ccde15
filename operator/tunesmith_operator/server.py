"""/metrics for Prometheus, /healthz for the kubelet."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


async def serve(port: int, trouble: Callable[[], str]) -> web.AppRunner:
    """Starts to serve; healthy is what `trouble` finds nothing wrong with, asked in the loop that does the work."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        wrong = trouble()
        return web.Response(text=wrong or "ok", status=503 if wrong else 200)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
