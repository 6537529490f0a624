"""The operator's own port: /healthz, /readyz and /metrics."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from perdure.reconciler.metrics import OperatorMetrics


@contextlib.asynccontextmanager
async def served(
    metrics: OperatorMetrics, host: str, port: int, *, alive: Callable[[], str | None], refresh: Callable[[], None]
) -> AsyncIterator[None]:
    """Serve while the context lasts. `alive` gives the reason why this process is of no use any more, or None."""

    async def healthz(request: web.Request) -> web.Response:
        reason = alive()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def readyz(request: web.Request) -> web.Response:
        # A standby is ready, too: it is ready to take over, and a rollout must not wait for it to lead.
        return await healthz(request)

    async def scrape(request: web.Request) -> web.Response:
        refresh()
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
