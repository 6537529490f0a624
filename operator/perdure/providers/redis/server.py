"""What the server is, and whether it may hold durable data. Looked at in full every half minute.

In between it is asked to run a function that is refused wherever a commit would be: by a replica, a full memory, a disk
that cannot be written, a slot that is elsewhere.
"""

from __future__ import annotations

import time

from perdure.durable.records import ProviderInfo
from perdure.errors import PerdureError, ProviderUnavailable
from perdure.providers.redis.client import RedisClient
from perdure.providers.redis.config import RedisConfig

_FRESH_SECONDS = 30.0
_WAITAOF_SINCE = (7, 2)


class ServerCheck:
    """`run` raises `ProviderUnavailable` for a server that cannot be used, in words that say what to change."""

    def __init__(self, client: RedisClient, config: RedisConfig, key: bytes) -> None:
        """`key`: any of the Worker's, for its slot."""
        self._client = client
        self._key = key
        self._config = config
        self._found: ProviderInfo | None = None
        self._at = 0.0

    async def run(self) -> ProviderInfo:
        if self._found is not None and time.monotonic() - self._at < _FRESH_SECONDS:
            await self._client.call("ping", [self._key])
            return self._found
        self._found = None
        await self._client.check_route()
        fields = _fields(await self._client.command("INFO"))
        self._require_usable(fields)
        version = fields.get("valkey_version")
        name = f"Valkey {version}" if version else fields.get("redis_version", "?")
        sync = await self._fsync(fields)
        level, warnings = await self._durability(fields, sync)
        info = ProviderInfo("redis", name, level, warnings, settings=self._settings(fields, sync))
        await self._client.call("ping", [self._key])
        self._found = info
        self._at = time.monotonic()
        return self._found

    def _require_usable(self, fields: dict[str, str]) -> None:
        where = f"Redis at {self._client.where}"
        # Valkey names the version of Redis that it is compatible with.
        version = fields.get("redis_version", "0")
        if _numbers(version) < (7, 0):
            raise _unsuitable(f"{where} is version {version}; 7.0 or newer is needed")
        if fields.get("role") == "slave":
            raise _unsuitable(f"{where} is a replica: name the primary, or Sentinels that know it")
        clustered = fields.get("cluster_enabled") == "1"
        if clustered != self._config.cluster:
            raise _unsuitable(
                f"{where} is {'a member of a Redis Cluster' if clustered else 'no member of a Redis Cluster'}: "
                f"{'set' if clustered else 'do not set'} `cluster` for this provider"
            )
        policy = fields.get("maxmemory_policy", "noeviction")
        evicts = fields.get("maxmemory", "0") != "0" and policy != "noeviction"
        self._client.forgetful = (
            f"{where} evicts keys (maxmemory-policy {policy}), which would lose acknowledged data: "
            "set maxmemory-policy noeviction"
            if evicts
            else None
        )
        if self._client.forgetful is not None:
            raise _unsuitable(self._client.forgetful, retry_after=30)
        replicas = int(fields.get("connected_slaves", "0"))
        if replicas < self._config.wait_replicas:
            raise _unsuitable(f"{where} has {replicas} replicas; waitReplicas asks for {self._config.wait_replicas}")

    async def _durability(self, fields: dict[str, str], sync: str | None) -> tuple[str, tuple[str, ...]]:
        """The level, and warnings. Replicas are D3 if a write is in files before it is acknowledged. `sync`:
        appendfsync, None where it cannot be read."""
        if fields.get("aof_enabled") != "1":
            return "D0", ("appendonly is off: a crash of the server loses what its last snapshot file has not",)
        has_waitaof = self._client.replicas.flushed and _numbers(fields.get("redis_version", "0")) >= _WAITAOF_SINCE
        if self._config.wait_replicas and has_waitaof:
            return "D3", ()
        if sync is None:
            return "D1", ("appendfsync cannot be read (no permission for CONFIG GET): everysec is assumed",)
        if sync != "always":
            if self._config.wait_replicas:
                return "D1", ("replicas hold each write in their memory, no server in its file yet: see appendfsync",)
            return "D1", ()
        return ("D3" if self._config.wait_replicas else "D2"), ()

    async def _fsync(self, fields: dict[str, str]) -> str | None:
        if fields.get("aof_enabled") != "1":
            return None
        try:
            reply = await self._client.command("CONFIG", "GET", "appendfsync")
        except PerdureError:
            return None
        return bytes(reply[1]).decode() if isinstance(reply, list) and len(reply) == 2 else ""

    def _settings(self, fields: dict[str, str], sync: str | None) -> tuple[tuple[str, str], ...]:
        """What the level and the refusals above stand on."""
        mode = "cluster" if self._config.cluster else "sentinel" if self._config.sentinels else "standalone"
        found = [
            ("mode", mode),
            ("role", "primary" if fields.get("role") == "master" else fields.get("role", "?")),
            ("maxmemory-policy", fields.get("maxmemory_policy", "?")),
            ("appendonly", "yes" if fields.get("aof_enabled") == "1" else "no"),
            ("replicas", fields.get("connected_slaves", "0")),
        ]
        return (*found, ("appendfsync", sync)) if sync else tuple(found)


def _unsuitable(detail: str, *, retry_after: float = 1.0) -> ProviderUnavailable:
    return ProviderUnavailable(detail, retry_after=retry_after, cause="unsuitable")


def _fields(reply: object) -> dict[str, str]:
    """INFO as a flat mapping."""
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor."""
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[:2])
