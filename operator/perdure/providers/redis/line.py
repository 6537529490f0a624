"""The connections of one client: a few to the node that its route names, made when they are needed.

After a failure the next attempt waits a random while that grows with each failure, and all who want a connection
share that one attempt: neither the callers of one host nor the hosts of a Worker rush at a server that comes up.
"""

from __future__ import annotations

import asyncio
import random

from perdure.errors import PerdureError
from perdure.providers.redis.config import RedisConfig
from perdure.providers.redis.connection import Connection, connect
from perdure.providers.redis.routes import Route

_FIRST_PAUSE = 0.025
_LONGEST_PAUSE = 2.0


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row: exponential, with full jitter above a floor."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures, 16))
    return random.uniform(longest / 4, longest)  # noqa: S311 — no secret


class Line:
    """`take` a connection, `give` it back whole, or report it `broken`."""

    def __init__(self, config: RedisConfig, route: Route) -> None:
        self._config = config
        self._route = route
        self._idle: list[Connection] = []
        self._failures = 0
        self._attempt: asyncio.Task[None] | None = None
        self._closed = False

    async def take(self) -> Connection:
        """Raises `ProviderUnavailable`: nothing was sent."""
        if self._failures:
            if self._attempt is None:
                self._attempt = asyncio.create_task(self._try_again(), name="redis-reconnect")
                self._attempt.add_done_callback(self._tried)
            await asyncio.shield(self._attempt)
        try:
            node = await self._route.find()
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed and connection.node == node:
                    return connection
                connection.close()
            return await connect(node, self._config)
        except PerdureError:
            self.broken()
            raise

    def give(self, connection: Connection) -> None:
        """Give it back; there are never more than flights."""
        if self._closed:
            connection.close()
        elif not connection.closed:
            self._idle.append(connection)

    def broken(self) -> None:
        """A connection failed in use: the next one may have to go elsewhere, and not at once."""
        self._failures += 1
        self._route.forget()

    async def close(self) -> None:
        """Idempotent."""
        self._closed = True
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait([self._attempt])
        while self._idle:
            self._idle.pop().close()

    async def _try_again(self) -> None:
        await asyncio.sleep(pause(self._failures))
        try:
            self.give(await connect(await self._route.find(), self._config))
        except PerdureError:
            self.broken()
            raise
        self._failures = 0

    def _tried(self, attempt: asyncio.Task[None]) -> None:
        self._attempt = None
        if not attempt.cancelled():
            attempt.exception()
