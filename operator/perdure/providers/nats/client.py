"""One connection to NATS, made anew where it fails, and JetStream's requests over it: bounded in number and time.

The library's own reconnecting is off: it would hold what is to be sent until a server is back, long after its caller
has given up.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client

from perdure.errors import InternalError, PerdureError
from perdure.providers.line import Line
from perdure.providers.nats.config import NatsConfig
from perdure.providers.nats.failures import Refusal, translate
from perdure.providers.turns import Turns

Json = dict[str, Any]
_UNREACHED = (nats.errors.Error, OSError, TimeoutError, asyncio.IncompleteReadError)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """What is published. `headers`: texts without line breaks."""

    subject: str
    data: bytes
    headers: Mapping[str, str]


class NatsClient:
    """A client belongs to one event loop."""

    def __init__(self, config: NatsConfig) -> None:
        self._config = config
        catch = (*_UNREACHED, PerdureError)
        self._line: Line[Client] = Line(config.servers, config.tls, self._connect, self._translate, catch)
        self._turns = Turns(config.concurrency, config.timeout, lambda: f"NATS at {self.where}", self._translate)

    @property
    def where(self) -> str:
        """The present server, without credentials."""
        return self._line.where

    async def api(self, operation: str, body: Mapping[str, Any]) -> Json:
        """A request to JetStream's API. Raises `Refusal`, `ProviderUnavailable` (outcome unknown), `Overloaded`."""

        async def send(connection: Client) -> Json:
            reply = await connection.request(f"$JS.API.{operation}", json.dumps(body).encode(), self._config.timeout)
            return _checked(reply.data)

        return await self._run(send)

    async def publish(self, messages: list[Message]) -> Json:
        """Several messages as one batch; the acknowledgement of the last one stands for all. Raises as `api`."""
        *first, last = messages

        async def send(connection: Client) -> Json:
            for message in first:
                await connection.publish(message.subject, message.data, headers=dict(message.headers))
            headers = dict(last.headers)
            reply = await connection.request(last.subject, last.data, self._config.timeout, headers=headers)
            return _checked(reply.data)

        return await self._run(send)

    async def server(self) -> tuple[str, int]:
        """The version, and the largest payload."""

        async def ask(connection: Client) -> tuple[str, int]:
            version = connection.connected_server_version
            return f"{version.major}.{version.minor}.{version.patch}", connection.max_payload

        return await self._run(ask)

    async def _run(self, send: Callable[[Client], Awaitable[T]]) -> T:
        async with self._turns.turn():
            return await self._attempt(send)

    async def _attempt(self, send: Callable[[Client], Awaitable[T]]) -> T:
        server, connection = await self._line.take()
        if not connection.is_connected:
            # It was lost since; nothing has been sent over it.
            self._line.broken(server)
            server, connection = await self._line.take()
        try:
            return await send(connection)
        except nats.errors.NoRespondersError as error:
            raise self._translate(error) from error
        except _UNREACHED as error:
            self._line.broken(server)
            raise self._translate(error) from error
        except asyncio.CancelledError:
            # The time is up, most likely: a server that is silent must not be asked again over the same connection.
            self._line.broken(server)
            raise

    async def _connect(self, server: str, tls: ssl.SSLContext | None) -> Client:
        former = self._line.found
        if former is not None and not former.is_closed:
            await _close(former)
        username, password = await asyncio.to_thread(self._config.credentials)
        login: dict[str, Any] = {"user": username, "password": password} if username else {"token": password}
        failures: list[Exception] = []

        async def failed(error: Exception) -> None:
            failures.append(error)

        connection = Client()
        try:
            async with asyncio.timeout(self._config.timeout):
                # The library tries a server a second time at least; only its callback tells why it failed.
                await connection.connect(
                    server.replace("tls:", "nats:") if tls is None else server,
                    name="perdure",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=max(1, round(self._config.timeout)),
                    tls=tls,
                    error_cb=failed,
                    **{name: value for name, value in login.items() if value is not None},
                )
        except BaseException as error:
            # The library leaves the sockets of a failed attempt open.
            await _close(connection)
            if isinstance(error, nats.errors.NoServersError) and failures:
                raise failures[-1] from error
            raise
        return connection

    def _translate(self, error: Exception) -> PerdureError:
        return translate(error, self.where)

    async def close(self) -> None:
        """Idempotent."""
        self._turns.close()
        await self._line.close()
        if self._line.found is not None:
            await _close(self._line.found)


async def _close(connection: Client) -> None:
    try:
        await connection.close()
    except _UNREACHED:
        # Nothing is lost: whoever waited has been answered.
        return


def _checked(data: bytes) -> Json:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InternalError("NATS answered a request to JetStream with something else than JSON") from error
    if not isinstance(document, dict):
        raise InternalError("NATS answered a request to JetStream with JSON of another kind")
    refused = document.get("error")
    if refused:
        code, status = int(refused.get("err_code", 0)), int(refused.get("code", 500))
        raise Refusal(code, status, str(refused.get("description", "")))
    return document
