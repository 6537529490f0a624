"""An HTTP server that keeps what it is sent, and charges once for each Idempotency-Key."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

KEY = "Idempotency-Key"


@dataclass
class Shop:
    """`charges`: what each key was charged for; `requests`: all that came, in order."""

    port: int = 0
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    charges: dict[str, bytes] = field(default_factory=dict)
    misused: list[str] = field(default_factory=list)

    scheme: str = "http"
    met: asyncio.Barrier | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def charge(self, request: web.Request) -> web.Response:
        body = await self._noted(request)
        key = request.headers[KEY]
        if self.charges.setdefault(key, body) != body:
            self.misused.append(key)
        number = list(self.charges).index(key) + 1
        return web.Response(text=f"charge {number} {body.decode()}", headers={"X-Number": str(number)})

    async def echo(self, request: web.Request) -> web.Response:
        body = await self._noted(request)
        lines = [f"{request.method} {request.path_qs}", *(f"{n}: {v}" for n, v in request.headers.items())]
        return web.Response(body="\n".join(lines).encode() + b"\n" + body, status=202)

    async def redirect(self, request: web.Request) -> web.Response:
        await self._noted(request)
        return web.Response(status=302, headers={"Location": f"{self.url}/charge"})

    async def slow(self, request: web.Request) -> web.Response:
        await self._noted(request)
        await asyncio.sleep(float(request.query.get("s", "1")))
        return web.Response(text="late")

    async def together(self, request: web.Request) -> web.Response:
        """Answers when as many requests are here as `met` has parties."""
        await self._noted(request)
        assert self.met is not None
        await self.met.wait()
        return web.Response(text="together")

    async def large(self, request: web.Request) -> web.Response:
        await self._noted(request)
        return web.Response(body=bytes(int(request.query["n"])))

    async def half(self, request: web.Request) -> web.StreamResponse:
        await self._noted(request)
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return answer

    async def _noted(self, request: web.Request) -> bytes:
        body = await request.read()
        self.requests.append(request)
        self.bodies.append(body)
        return body


@asynccontextmanager
async def shop_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[Shop]:
    shop = Shop(scheme="http" if tls is None else "https")
    application = web.Application(client_max_size=64 << 20)
    for path, handler in (
        ("/charge", shop.charge),
        ("/echo", shop.echo),
        ("/redirect", shop.redirect),
        ("/slow", shop.slow),
        ("/together", shop.together),
        ("/large", shop.large),
        ("/half", shop.half),
    ):
        application.router.add_route("*", path, handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    shop.port = runner.addresses[0][1]
    try:
        yield shop
    finally:
        await runner.cleanup()
