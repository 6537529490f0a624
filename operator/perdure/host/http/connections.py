"""Connections of clients: how many are open, how long one may be silent, and what a client is told that speaks no HTTP.

A client that sends nothing, or its request's head byte by byte, holds a connection for `SILENCE` at most, and loses it
before that where somebody else has no room. One whose request is being answered keeps it.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Final, cast

from aiohttp import web
from typing_extensions import override

from perdure.errors import Overloaded
from perdure.host.http.problems import plain_problem, problem
from perdure.host.metrics import HostMetrics

MAX_CONNECTIONS = 4096
"""Open at the API's port; fewer where the process may not open twice as many files."""
MAX_PROBES = 128
"""Open at the port of health and metrics."""
SILENCE = 75.0
"""Seconds from the beginning, or from the last answer, to the next request's whole head. More than the 60 s for which
proxies keep their connections: whoever closes first should be the one that sends."""
_MAX_LINE: Final = 16 << 10
"""Bytes of a request's first line: a key of 4,096 bytes takes three times as many."""


def max_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


def _refusal() -> bytes:
    """What is sent before any request has come."""
    reply = problem(Overloaded("all connections of this host have a request under way"))
    assert isinstance(reply.body, bytes)
    head = {"Content-Type": reply.headers["Content-Type"], "Retry-After": reply.headers["Retry-After"]}
    head |= {"Content-Length": str(len(reply.body)), "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 {reply.status} {reply.reason}\r\n{lines}\r\n".encode() + reply.body


class Connections:
    """Those of one port. What `loop.create_server` calls for each of them.

    `server`: where requests go. `port`: the word for it in metrics. `limit`: how many may be open.
    """

    def __init__(self, server: web.Server, metrics: HostMetrics, *, port: str, limit: int) -> None:
        self._server = server
        self._metrics = metrics
        self._port = port
        self._limit = limit
        self._open = 0
        self._waiting: dict[Connection, None] = {}
        metrics.show_connections(port, lambda: self._open)

    def __call__(self) -> asyncio.Protocol:
        return Connection(self, self._server)

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for a request. False: all have one."""
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self.gone(longest)
        self._metrics.connection_closed(self._port, "evicted")
        longest.force_close()
        return True

    def came(self, connection: Connection) -> bool:
        """Whether there is room for it."""
        if self._open >= self._limit and not self._make_room():
            self._metrics.connection_closed(self._port, "refused")
            return False
        self._open += 1
        connection.counted = True
        self._waiting[connection] = None
        return True

    def gone(self, connection: Connection) -> None:
        """For good: whatever follows of it counts no more."""
        if connection.counted:
            connection.counted = False
            self._open -= 1
            self._waiting.pop(connection, None)

    def asks(self, connection: Connection) -> None:
        self._waiting.pop(connection, None)

    def answered(self, connection: Connection) -> None:
        if connection.counted:
            self._waiting[connection] = None


class Connection(web.RequestHandler):
    """One client's. `counted`: it is among those that are open."""

    __slots__ = ("_all", "counted")

    def __init__(self, connections: Connections, server: web.Server) -> None:
        # Bodies are taken as they are sent: what is compressed is refused, or the guest's to read.
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=SILENCE,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=_MAX_LINE,
            auto_decompress=False,
        )
        self._all = connections
        self.counted = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._all.came(self):
            super().connection_made(transport)
        else:
            # uvloop's are transports by what they do, not by their class.
            cast(asyncio.WriteTransport, transport).write(_refusal())
            transport.close()
            self.force_close()

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        self._all.gone(self)
        super().connection_lost(exc)

    def asks(self) -> None:
        """A request has come, whose answer ends in `finish_response`."""
        self._all.asks(self)

    @override
    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._all.answered(self)

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that could not be read, as a problem. What is wrong with it is in the log."""
        plain = super().handle_error(request, status, exc, message)
        if status != 400:
            return plain
        told = plain_problem(400, "bad-request", "this is no request of HTTP/1.1 that could be read")
        told.force_close()
        return told


def begin(request: web.Request) -> None:
    """Every application begins its requests with it: whose request is being answered does not wait for one."""
    if isinstance(request.protocol, Connection):
        request.protocol.asks()
