"""The raw stores to compare with: one SET from redis-py's asyncio client, one SQLite commit, one upsert from asyncpg's
client; nothing around them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from redis.asyncio import BlockingConnectionPool, Redis

from harness.rounds import spread_over


class RawRedis:
    """`tasks` tasks, each awaiting each of its replies, over as many connections."""

    def __init__(self, client: Redis, tasks: int, value: bytes) -> None:
        self.client = client
        self._tasks = tasks
        self._value = value
        self._keys = [f"raw:{number}" for number in range(tasks)]

    async def set(self, count: int) -> list[float]:
        """One SET a command."""
        return await spread_over(self._tasks, count, self._one)

    async def _one(self, task: int) -> None:
        await self.client.set(self._keys[task], self._value)

    async def set_pipelined(self, count: int) -> None:
        """SETs in pipelines of `tasks`, one pipeline at a time."""
        for start in range(0, count, self._tasks):
            pipeline = self.client.pipeline(transaction=False)
            for key in self._keys[: count - start]:
                pipeline.set(key, self._value)
            await pipeline.execute()


@asynccontextmanager
async def raw_redis(url: str, tasks: int, value: bytes) -> AsyncIterator[RawRedis]:
    """The client of redis-py with hiredis and a connection for each task."""
    client = Redis(connection_pool=BlockingConnectionPool.from_url(url, max_connections=tasks, protocol=2))
    try:
        yield RawRedis(client, tasks, value)
    finally:
        await client.aclose()
        await client.connection_pool.disconnect()


class RawSqlite:
    """One connection, one row a commit, WAL and synchronous=FULL as Perdure has it."""

    def __init__(self, path: Path, value: bytes) -> None:
        self._value = value
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    async def set(self, count: int) -> None:
        """`count` commits, one after the other."""
        for _ in range(count):
            self._connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (b"raw", self._value))

    def close(self) -> None:
        self._connection.close()


class RawPostgres:
    """`tasks` tasks over as many connections, each awaiting each of its replies: one row an upsert and a commit."""

    def __init__(self, connections: list[asyncpg.Connection], value: bytes) -> None:
        self._connections = connections
        self._value = value

    async def set(self, count: int) -> list[float]:
        return await spread_over(len(self._connections), count, self._one)

    async def _one(self, task: int) -> None:
        await self._connections[task].execute(
            "INSERT INTO raw VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            b"raw-%d" % task,
            self._value,
        )


@asynccontextmanager
async def raw_postgres(url: str, connections: int, value: bytes) -> AsyncIterator[RawPostgres]:
    """As many connections as Perdure's store has, at most one a task."""
    opened = [await asyncpg.connect(url, ssl=False) for _ in range(connections)]
    try:
        await opened[0].execute("CREATE TABLE IF NOT EXISTS raw (key bytea PRIMARY KEY, value bytea)")
        yield RawPostgres(opened, value)
    finally:
        for connection in opened:
            await connection.close()
