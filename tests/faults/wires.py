"""Boundaries around what crosses the wire: before it, when its bytes were given to the kernel, and after its reply.

Whether a server carries out what a killed client has sent is chance; both must be right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from aiohttp.http_writer import StreamWriter

from perdure.durable import faultpoint
from perdure.host.outgoing import OutgoingHttp
from perdure.host.peers import Peers
from perdure.providers.postgres import client as postgres
from perdure.providers.postgres.client import PostgresClient
from perdure.providers.redis.client import RedisClient
from perdure.providers.redis.connection import Connection
from perdure.wasi.http.messages import HttpRequest
from perdure.wasi.recorder import Plain
from support.patching import put

T = TypeVar("T")
operation: ContextVar[str | None] = ContextVar("operation", default=None)
"""`home.commit`: which operation of which store the present task carries out."""
_commands: dict[bytes, str] = {}
_requests: dict[int, str] = {}


def watch() -> None:
    """Make the clients of this process reach `<operation>.sent`."""
    _watch_redis()
    _watch_postgres()
    _watch_http()


def _watch_redis() -> None:
    send, exchange = RedisClient._send, Connection.exchange

    async def labelled(self: RedisClient, data: bytes, *, replicated: bool) -> object:
        name = operation.get()
        if name is not None:
            _commands[data] = name
        return await send(self, data, replicated=replicated)

    async def sent(self: Connection, commands: Sequence[bytes]) -> list[object]:
        names = [_commands.pop(command, None) for command in commands]
        return await _sending(exchange(self, commands), *names)

    RedisClient._send = labelled  # type: ignore[method-assign]
    Connection.exchange = sent  # type: ignore[method-assign]


def _watch_postgres() -> None:
    asked, run = postgres._Request, PostgresClient._run

    def labelled(*args: Any, **named: Any) -> postgres._Request:
        made, name = asked(*args, **named), operation.get()
        if name is not None:
            _requests[id(made)] = name
        return made

    async def sent(self: PostgresClient, connection: Any, request: postgres._Request) -> list[postgres.Row]:
        return await _sending(run(self, connection, request), _requests.pop(id(request), None))

    put(postgres, _Request=labelled)
    PostgresClient._run = sent  # type: ignore[method-assign]


def _watch_http() -> None:
    """Requests to etcd, of guests (`http.send`) and between hosts (`peers.forward`)."""
    send, forward, ended = OutgoingHttp.send, Peers.forward, StreamWriter.write_eof

    async def sent(self: OutgoingHttp, request: HttpRequest) -> Plain:
        return await bounded("http.send", send(self, request))

    async def forwarded(self: Peers, *args: Any, **named: Any) -> Any:
        return await bounded("peers.forward", forward(self, *args, **named))

    async def written(self: StreamWriter, chunk: bytes = b"") -> None:
        await ended(self, chunk)
        if (name := operation.get()) is not None:
            faultpoint.reach(f"{name}.sent")

    OutgoingHttp.send = sent  # type: ignore[method-assign]
    Peers.forward = forwarded  # type: ignore[method-assign]
    StreamWriter.write_eof = written  # type: ignore[method-assign]


async def bounded(name: str, work: Awaitable[T]) -> T:
    """Carry out an operation between its boundaries."""
    faultpoint.reach(f"{name}.before")
    token = operation.set(name)
    try:
        return await work
    finally:
        operation.reset(token)
        faultpoint.reach(f"{name}.after")


async def _sending(work: Awaitable[T], *names: str | None) -> T:
    """In its first step it sends, then it waits for the reply."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    for name in names:
        if name is not None:
            faultpoint.reach(f"{name}.sent")
    return await task
