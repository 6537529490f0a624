"""A registry in this process that answers pulls as it is told to, well-behaved or hostile."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from support.artifacts import MANIFEST_TYPE, Artifact


@dataclass
class LocalRegistry:
    """`tags`: by `repository:tag`. `gate`: what answers in place of a pull, or None. `token`: the token service."""

    address: str = ""
    tags: dict[str, Artifact] = field(default_factory=dict)
    gate: Callable[[web.Request], web.Response | None] = lambda request: None
    token: Callable[[web.Request], web.Response] = lambda request: web.json_response({"token": "t"})
    requests: list[str] = field(default_factory=list)

    async def pull(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        refused = self.gate(request)
        if refused is not None:
            return refused
        repository, _, rest = request.match_info["path"].rpartition("/manifests/")
        if repository:
            for name, found in self.tags.items():
                if name == f"{repository}:{rest}" or (name.startswith(repository + ":") and found.digest == rest):
                    return web.Response(body=found.manifest, content_type=MANIFEST_TYPE)
        digest = request.match_info["path"].rpartition("/blobs/")[2]
        blobs = {name: data for found in self.tags.values() for name, data in found.blobs.items()}
        return web.Response(body=blobs[digest]) if digest in blobs else web.Response(status=404)

    async def give_token(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        return self.token(request)


@contextlib.asynccontextmanager
async def local_registry() -> AsyncIterator[LocalRegistry]:
    found = LocalRegistry()
    app = web.Application()
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]] = found.pull
    app.router.add_get("/v2/{path:.*}", handler)
    app.router.add_get("/token", found.give_token)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        found.address = f"{host}:{port}"
        yield found
    finally:
        await runner.cleanup()
