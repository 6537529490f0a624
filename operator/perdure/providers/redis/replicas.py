"""Waiting for replicas (`wait_replicas`): durability D3.

WAIT and WAITAOF count all that the server had written when they were sent, by whichever connection, so behind the
commands of a pipeline they cover them all, and cover a resend that changed nothing, too.

WAITAOF alone takes a second: a replica that is asked at once answers before it has written its file, and next tells
of its own accord. Behind a WAIT it is asked a second time, when it has (measured on Redis 8.2: 1,000 ms and 3 ms).
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
        self._timeout = config.timeout

    @property
    def wanted(self) -> bool:
        return self.needed > 0

    @property
    def commands(self) -> list[bytes]:
        """To be sent behind what must be confirmed. The server gives up before the connection does."""
        if self.flushed:
            return [pack("WAIT", self.needed, self._part(0.25)), pack("WAITAOF", 1, self.needed, self._part(0.6))]
        return [pack("WAIT", self.needed, self._part(0.75))]

    def _part(self, share: float) -> int:
        """Milliseconds; 0 would be for ever."""
        return max(1, int(self._timeout * 1000 * share))

    async def failure(self, reply: object, connection: Connection) -> PerdureError | None:
        """What the last reply to `commands` says. None: enough replicas hold all that was sent on `connection`."""
        if self.flushed and isinstance(reply, hiredis.ReplyError):
            # The server does not know WAITAOF, or keeps no file itself.
            self.flushed = False
            (reply,) = await connection.exchange(self.commands)
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
