"""The connection to Redis: commands of one event-loop turn share a pipeline.

One command at a time costs a Python client five times as much as a pipeline's share. Callers wait on futures of
their own; a cancelled caller leaves its command in the pipeline and nobody else gets its reply, because replies are
matched by position within one pipeline that is always read to its end. Bounded: `_WAITING` commands queued
(`Overloaded` beyond), `connections` pipelines in flight.

redis-py makes the connections; commands are packed by hiredis and sent on them directly, since redis-py's own
pipeline costs three times as much for the same bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from importlib.resources import files
from urllib.parse import urlsplit

import hiredis
from redis.asyncio import ConnectionPool, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError, ResponseError

from perdure.errors import Overloaded, PerdureError, ProviderUnavailable
from perdure.providers.redis.config import RedisConfig
from perdure.providers.redis.failures import translate

_WAITING = 20_000
_PIPELINE = 256
Argument = str | bytes | int


class _Credentials(CredentialProvider):
    """Asked at each connect, so that a rotated Secret is used without a restart."""

    def __init__(self, config: RedisConfig) -> None:
        self._config = config

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        username, password = self._config.credentials()
        if password is None:
            return ("",)
        return (username, password) if username else (password,)


class RedisClient:
    """`call` runs one of our functions, `command` any other command."""

    def __init__(self, config: RedisConfig) -> None:
        parts = urlsplit(config.url)
        self.where = f"{parts.hostname}:{parts.port or 6379}"
        self._config = config
        self._pool = self._connections(config)
        self._queue: deque[tuple[bytes, asyncio.Future[object]]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._closed = False
        self._version, self._library = function_library()

    def _connections(self, config: RedisConfig) -> ConnectionPool:
        options: dict[str, object] = {}
        if config.tls:
            options |= {"connection_class": SSLConnection, "ssl_cert_reqs": "required"}
            if config.ca is not None:
                options["ssl_ca_certs"] = str(config.ca)
        if config.credentials()[1] is not None:
            options["credential_provider"] = _Credentials(config)
        # Never exhausted: there are at most `connections` flights, each with one connection.
        return ConnectionPool.from_url(
            config.url,
            max_connections=config.connections,
            socket_timeout=config.timeout,
            socket_connect_timeout=config.timeout,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            **options,
        )

    async def call(self, function: str, keys: Sequence[bytes], *args: Argument) -> object:
        """Run `perdure_<function>`. Loads the library when the server does not have it.

        Raises `ProviderUnavailable` (outcome unknown), `Overloaded`.
        """
        name = f"perdure_{function}_{self._version}"
        command = ("FCALL", name, len(keys), *keys, *args)
        try:
            return await self.command(*command)
        except _FunctionMissing:
            await self.load_library()
            return await self.command(*command)

    async def load_library(self) -> None:
        """Give the server our functions; another host may have done so."""
        try:
            await self.command("FUNCTION", "LOAD", self._library)
        except PerdureError as error:
            if "already exists" not in error.detail:
                raise

    async def command(self, *args: Argument) -> object:
        """One command's reply. Raises as `call`."""
        if self._closed:
            raise ProviderUnavailable("the store is closed")
        if len(self._queue) >= _WAITING:
            raise Overloaded(f"{_WAITING} commands wait for Redis at {self.where}")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._queue.append((hiredis.pack_command(args), future))  # type: ignore[arg-type]
        self._schedule(loop)
        return await future

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled and len(self._flights) < self._config.connections:
            self._scheduled = True
            loop.call_soon(self._depart)

    def _depart(self) -> None:
        self._scheduled = False
        batch: list[tuple[bytes, asyncio.Future[object]]] = []
        while self._queue and len(batch) < _PIPELINE:
            command, future = self._queue.popleft()
            if not future.cancelled():
                batch.append((command, future))
        if batch:
            task = asyncio.get_running_loop().create_task(self._fly(batch), name="redis-pipeline")
            self._flights.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flights.discard(task)
        if self._queue and not self._closed:
            self._schedule(asyncio.get_running_loop())

    async def _fly(self, batch: list[tuple[bytes, asyncio.Future[object]]]) -> None:
        replies: list[object]
        try:
            replies = await self._exchange([command for command, _ in batch])
        except (RedisError, OSError) as error:
            replies = [error] * len(batch)
        except asyncio.CancelledError:
            closed = ProviderUnavailable("the store was closed while a command was under way")
            for _, future in batch:
                if not future.done():
                    future.set_exception(closed)
            raise
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(self._failure(reply))
            else:
                future.set_result(reply)

    async def _exchange(self, commands: list[bytes]) -> list[object]:
        """One reply a command, errors of single commands among them. Whatever is raised has closed the connection."""
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command(commands, check_health=False)
            return [await _reply(connection) for _ in commands]
        finally:
            await self._pool.release(connection)

    def _failure(self, error: Exception) -> PerdureError:
        if isinstance(error, ResponseError) and "Function not found" in str(error):
            return _FunctionMissing("the server does not have Perdure's functions")
        return translate(error, self.where)

    async def close(self) -> None:
        """Let what is under way finish, then disconnect. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._flights:
                await asyncio.wait(self._flights, timeout=self._config.timeout)
            for task in self._flights:
                task.cancel()
            for _, future in self._queue:
                if not future.done():
                    future.set_exception(ProviderUnavailable("the store is closed"))
            await self._pool.disconnect()


async def _reply(connection: AbstractConnection) -> object:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def function_library() -> tuple[str, str]:
    """The version of our functions, which is part of their names, and the library that holds them."""
    folder = files("perdure.providers.redis").joinpath("functions")
    parts = sorted((part for part in folder.iterdir() if part.name.endswith(".lua")), key=lambda part: part.name)
    source = "\n".join(part.read_text(encoding="utf-8") for part in parts)
    version = hashlib.sha256(source.encode()).hexdigest()[:8]
    return version, f"#!lua name=perdure_{version}\n" + source.replace("_VERSION", f"_{version}")


class _FunctionMissing(PerdureError):
    """The library has to be loaded first."""
