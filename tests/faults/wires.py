"""Boundaries on the wire: an operation's bytes were given to the kernel, and its reply was not read.

Whether a server carries out what a killed client has sent is chance; both must be right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

from perdure.durable import faultpoint
from perdure.providers.postgres import client as postgres
from perdure.providers.redis.client import RedisClient
from perdure.providers.redis.connection import Connection

operation: ContextVar[str | None] = ContextVar("operation", default=None)
"""`home.commit`: which operation of which store the present task carries out."""
_commands: dict[bytes, str] = {}
_requests: dict[int, str] = {}


def watch() -> None:
    """Make the clients of this process reach `<operation>.sent`."""
    _watch_redis()
    _watch_postgres()


def _watch_redis() -> None:
    send, exchange = RedisClient._send, Connection.exchange

    async def labelled(self: RedisClient, data: bytes, *, replicated: bool) -> object:
        name = operation.get()
        if name is not None:
            _commands[data] = name
        return await send(self, data, replicated=replicated)

    async def sent(self: Connection, commands: Any) -> list[object]:
        names = [_commands.pop(command, None) for command in commands]
        return await _sending(exchange(self, commands), *names)

    RedisClient._send = labelled  # type: ignore[method-assign]
    Connection.exchange = sent  # type: ignore[method-assign]


def _watch_postgres() -> None:
    request, run = postgres._Request, postgres.PostgresClient._run

    def labelled(*args: Any, **named: Any) -> Any:
        made, name = request(*args, **named), operation.get()
        if name is not None:
            _requests[id(made)] = name
        return made

    async def sent(self: Any, connection: Any, made: Any) -> Any:
        return await _sending(run(self, connection, made), _requests.pop(id(made), None))

    postgres._Request = labelled  # type: ignore[assignment,misc]
    postgres.PostgresClient._run = sent  # type: ignore[method-assign]


async def _sending(work: Awaitable[Any], *names: str | None) -> Any:
    """In its first step it sends, then it waits for the reply."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    for name in names:
        if name is not None:
            faultpoint.reach(f"{name}.sent")
    return await task
