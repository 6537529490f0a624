"""The HTTP server that guests ask. It never gives the same answer twice, so that an answer tells which request it is of.

A request as the scenario means it is told by its path and body, which no two of a scenario share. It may come several
times, under one `Idempotency-Key`: then it was repeated. Nothing may come that was not meant.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Meant = tuple[str, bytes]
_SLOW = 0.003
"""Seconds that it takes to answer, so that hosts can die meanwhile."""


@dataclass
class Outside:
    """`keys`: those under which each request came. `given`: its answers. `late`: instances whose requests came again after
    their call had been answered."""

    port: int = 0
    keys: dict[Meant, set[str]] = field(default_factory=dict)
    given: dict[Meant, list[bytes]] = field(default_factory=dict)
    late: dict[str, Meant] = field(default_factory=dict)
    _expected: set[Meant] = field(default_factory=set)
    _answered: dict[Meant, str] = field(default_factory=dict)
    _count: int = 0

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}"

    def served(self, instance: str, meant: Meant, answer: bytes) -> bool:
        """The instance says that it got this answer, in a call that is over."""
        self._expected.add(meant)
        self._answered[meant] = instance
        return answer in self.given.get(meant, [])

    def tried(self, meant: Meant) -> None:
        """A guest has made it, in a call that came to nothing."""
        self._expected.add(meant)

    def wrong(self) -> str | None:
        """What must not have come, or should have."""
        if missing := self._expected - self.keys.keys():
            return f"never came: {missing}"
        if unmeant := self.keys.keys() - self._expected:
            return f"no call made these: {unmeant}"
        if several := {meant: keys for meant, keys in self.keys.items() if len(keys) != 1}:
            return f"came under several keys: {several}"
        if len({key for keys in self.keys.values() for key in keys}) != len(self.keys):
            return f"different requests under one key: {self.keys}"
        return None

    async def serve(self, request: web.Request) -> web.Response:
        meant = (request.path, await request.read())
        self._count += 1
        answer = b"%d" % self._count
        self.keys.setdefault(meant, set()).add(request.headers.get("Idempotency-Key", ""))
        self.given.setdefault(meant, []).append(answer)
        if meant in self._answered:
            self.late[self._answered[meant]] = meant
        await asyncio.sleep(_SLOW)
        return web.Response(body=answer)


@asynccontextmanager
async def outside_server() -> AsyncIterator[Outside]:
    """On a free port of this machine."""
    made = Outside()
    application = web.Application()
    application.router.add_post("/{path:.*}", made.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()
