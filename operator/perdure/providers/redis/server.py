"""What the server is, and whether it may hold durable data. Looked at in full every half minute, pinged in between."""

from __future__ import annotations

import time

from perdure.durable.records import ProviderInfo
from perdure.errors import PerdureError, ProviderUnavailable
from perdure.providers.redis.client import RedisClient

_FRESH_SECONDS = 30.0


class ServerCheck:
    """`run` raises `ProviderUnavailable` for a server that cannot be used, in words that say what to change."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._found: ProviderInfo | None = None
        self._at = 0.0

    async def run(self) -> ProviderInfo:
        if self._found is not None and time.monotonic() - self._at < _FRESH_SECONDS:
            await self._client.command("PING")
            return self._found
        fields = _fields(await self._client.command("INFO"))
        self._require_usable(fields)
        self._found = ProviderInfo("redis", fields.get("redis_version", "?"), *await self._durability(fields))
        self._at = time.monotonic()
        return self._found

    def _require_usable(self, fields: dict[str, str]) -> None:
        where = self._client.where
        version = fields.get("redis_version", "0")
        if int(version.split(".")[0] or 0) < 7:
            raise ProviderUnavailable(f"Redis at {where} is version {version}; 7.0 or newer is needed")
        policy = fields.get("maxmemory_policy", "noeviction")
        if fields.get("maxmemory", "0") != "0" and policy != "noeviction":
            raise ProviderUnavailable(
                f"Redis at {where} evicts keys (maxmemory-policy {policy}), which would lose acknowledged data: "
                "set maxmemory-policy noeviction",
                retry_after=30,
            )

    async def _durability(self, fields: dict[str, str]) -> tuple[str, tuple[str, ...]]:
        if fields.get("aof_enabled") != "1":
            return "D0", ("appendonly is off: a crash of the server loses what its last snapshot file has not",)
        try:
            reply = await self._client.command("CONFIG", "GET", "appendfsync")
        except PerdureError:
            return "D1", ("appendfsync cannot be read (no permission for CONFIG GET): everysec is assumed",)
        if isinstance(reply, dict):
            sync = next(iter(reply.values()), b"")
        else:
            sync = reply[1] if isinstance(reply, list) and len(reply) == 2 else b""
        return ("D2" if sync in (b"always", "always") else "D1"), ()


def _fields(reply: object) -> dict[str, str]:
    """INFO as a flat mapping, whether or not the client has parsed it."""
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
