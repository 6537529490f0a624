"""The second port (9090): liveness, readiness, metrics, and what the operator asks for a Worker's status. It answers
while the API's port drains."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from perdure.host.http.connections import begin
from perdure.host.metrics import HostMetrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def health_application(
    metrics: HostMetrics,
    not_ready: Callable[[], str | None],
    refresh: Callable[[], None],
    status: Callable[[], dict[str, object]],
) -> web.Application:
    """`not_ready` gives the reason in words, or None; `refresh` brings gauges up to date before a scrape; `status`
    gives the document of `/status`."""

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        reason = not_ready()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def scrape(request: web.Request) -> web.Response:
        refresh()
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def told(request: web.Request) -> web.Response:
        return web.json_response(status())

    @web.middleware
    async def begun(request: web.Request, handler: Handler) -> web.StreamResponse:
        begin(request)
        return await handler(request)

    app = web.Application(middlewares=[begun])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/status", told)
    return app
