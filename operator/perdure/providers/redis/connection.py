"""One connection to a server: a batch of commands goes out at once, their replies come back in order.

A plain asyncio protocol over hiredis, since a client library's connection costs several times as much for the same
bytes. Whatever goes wrong closes the connection: a batch is answered whole or not at all.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import cast

import hiredis

from perdure.errors import InternalError, ProviderUnavailable
from perdure.providers.redis.config import Credentials, Node, RedisConfig
from perdure.providers.redis.failures import translate

Argument = str | bytes | int


class Connection(asyncio.Protocol):
    """Made by `connect`. One `exchange` at a time."""

    def __init__(self, node: Node, timeout: float) -> None:
        self.node = node
        self.closed = False
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._expected = 0
        self._replies: list[object] = []
        self._done: asyncio.Future[list[object]] | None = None
        self._heard = 0.0
        self._unsent = 0

    async def exchange(self, commands: Sequence[bytes]) -> list[object]:
        """One reply a command, errors among them as `hiredis.ReplyError`. Raises `OSError` or `TimeoutError` (the
        server has been silent); then nobody knows which of the commands took place."""
        if self.closed or self._transport is None:
            raise ConnectionResetError(f"the connection to {self.node} is closed")
        done = self._done = self._loop.create_future()
        self._expected, self._replies = len(commands), []
        self._heard, self._unsent = self._loop.time(), 0
        self._transport.write(b"".join(commands))
        watch = self._loop.call_later(self._timeout, self._watch)
        try:
            replies: list[object] = await done
            return replies
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            watch.cancel()
            self._done = None

    def _watch(self) -> None:
        """Is the server silent, or is a long batch still on its way?"""
        if self._done is None or self._done.done() or self._transport is None:
            return
        unsent = self._transport.get_write_buffer_size()
        quiet = self._loop.time() - self._heard
        if quiet < self._timeout or unsent < self._unsent:
            self._unsent = unsent
            self._loop.call_later(max(self._timeout - quiet, self._timeout / 4), self._watch)
        else:
            self._fail(TimeoutError(f"{self.node} has not answered for {self._timeout:g} s"))

    def close(self) -> None:
        """Idempotent."""
        self._fail(ConnectionResetError(f"the connection to {self.node} was closed"))

    def _fail(self, error: Exception) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asyncio's class under every event loop.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._replies.append(reply)
        except hiredis.ProtocolError as error:
            self._fail(ConnectionAbortedError(f"{self.node} does not speak Redis' protocol: {error}"))
            return
        if self._done is None or len(self._replies) > self._expected:
            self._fail(ConnectionAbortedError(f"{self.node} has sent what nobody asked for"))
        elif len(self._replies) == self._expected and not self._done.done():
            self._done.set_result(self._replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError(f"{self.node} has closed the connection"))


def pack(*args: Argument) -> bytes:
    """A command as it is sent."""
    packed: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]
    return packed


async def connect(node: Node, config: RedisConfig, credentials: Credentials | None = None) -> Connection:
    """Connect and log in. `credentials`: others than the configuration's, of a server without databases. Raises
    `ProviderUnavailable`; nothing of consequence was sent then."""
    loop = asyncio.get_running_loop()
    connection: Connection | None = None
    try:
        async with asyncio.timeout(config.timeout):
            username, password = config.login() if credentials is None else credentials()
            context = await asyncio.to_thread(_tls, config) if config.tls else None
            _, connection = await loop.create_connection(
                lambda: Connection(node, config.timeout), node.host, node.port, ssl=context
            )
            first = []
            if password is not None:
                first.append(pack("AUTH", username, password) if username else pack("AUTH", password))
            if config.database and credentials is None:
                first.append(pack("SELECT", config.database))
            for number, reply in enumerate(await connection.exchange(first) if first else []):
                if isinstance(reply, hiredis.ReplyError):
                    # What does not know AUTH may answer with what it was sent: that must not get into a message.
                    raise hiredis.ReplyError("ERR AUTH") if number == 0 and _strange(reply, password) else reply
            return connection
    except (OSError, TimeoutError, hiredis.ReplyError) as error:
        if connection is not None:
            connection.close()
        raise translate(error, str(node)) from error
    except asyncio.CancelledError:
        if connection is not None:
            connection.close()
        raise


def _strange(reply: hiredis.ReplyError, password: str | None) -> bool:
    return password is not None and isinstance(translate(reply, ""), InternalError)


async def ask(node: Node, config: RedisConfig, *command: Argument, credentials: Credentials | None = None) -> object:
    """One command on a connection of its own. Raises `ProviderUnavailable`."""
    connection = await connect(node, config, credentials)
    try:
        (reply,) = await connection.exchange([pack(*command)])
    except (OSError, TimeoutError) as error:
        raise translate(error, str(node)) from error
    finally:
        connection.close()
    if isinstance(reply, hiredis.ReplyError):
        found = translate(reply, str(node))
        raise found if isinstance(found, ProviderUnavailable) else ProviderUnavailable(found.detail)
    return reply


def _tls(config: RedisConfig) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=None if config.ca is None else str(config.ca))
