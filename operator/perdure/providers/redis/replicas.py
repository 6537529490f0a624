"""Waiting for replicas (`wait_replicas`): durability D3.

WAIT and WAITAOF count all that the server had written when they were sent, by whichever connection, so one behind the
commands of a pipeline covers them all, and covers a resend that changed nothing, too.
"""

from __future__ import annotations

import hiredis

from perdure.errors import PerdureError, ProviderUnavailable
from perdure.providers.redis.config import RedisConfig
from perdure.providers.redis.connection import Connection, pack
from perdure.providers.redis.failures import translate


class Replicas:
    """`flushed`: whether the server has WAITAOF (Redis 7.2, Valkey), which waits for the files and not the memory."""

    def __init__(self, config: RedisConfig) -> None:
        self.needed = config.wait_replicas
        self.flushed = True
        # The server gives up before the connection does.
        self._timeout_ms = max(1, int(config.timeout * 750))

    @property
    def wanted(self) -> bool:
        return self.needed > 0

    @property
    def command(self) -> bytes:
        """To be sent behind what must be confirmed."""
        if self.flushed:
            return pack("WAITAOF", 1, self.needed, self._timeout_ms)
        return pack("WAIT", self.needed, self._timeout_ms)

    async def failure(self, reply: object, connection: Connection) -> PerdureError | None:
        """What `reply` to `command` says: None if enough replicas hold everything sent on `connection` before."""
        if self.flushed and isinstance(reply, hiredis.ReplyError):
            # The server does not know WAITAOF, or keeps no file itself.
            self.flushed = False
            (reply,) = await connection.exchange([self.command])
        if isinstance(reply, hiredis.ReplyError):
            return translate(reply, str(connection.node))
        count = reply
        if isinstance(reply, list):
            local, remote = reply
            count = remote if local else 0
        if isinstance(count, int) and count >= self.needed:
            return None
        return ProviderUnavailable(
            f"Redis at {connection.node}: {count} of {self.needed} replicas have confirmed the write in time "
            "(waitReplicas); its outcome is unknown"
        )
