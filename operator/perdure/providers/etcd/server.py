"""What the servers are, and what their acknowledgement is worth. Looked at in full every half minute.

In between a transaction that never writes is sent: etcd answers it only where it would answer one that does, with a
leader, room in the database, and the right to write.
"""

from __future__ import annotations

import time

from perdure.durable.records import ProviderInfo
from perdure.errors import PerdureError, ProviderUnavailable
from perdure.providers.etcd.client import EtcdClient
from perdure.providers.etcd.requests import put, version_is

_FRESH_SECONDS = 30.0
_OLDEST = (3, 5)


class ServerCheck:
    """`run` raises `ProviderUnavailable` for a server that cannot be used, in words that say what to change."""

    def __init__(self, client: EtcdClient, probe: bytes) -> None:
        self._client = client
        self._probe = probe
        self._found: ProviderInfo | None = None
        self._at = 0.0

    async def run(self) -> ProviderInfo:
        # No key has this version.
        await self._client.call(
            "/v3/kv/txn", {"compare": [version_is(self._probe, -1)], "success": [put(self._probe, b"")], "failure": []}
        )
        if self._found is None or time.monotonic() - self._at > _FRESH_SECONDS:
            version = await self._client.version()
            if _numbers(version) < _OLDEST:
                raise ProviderUnavailable(
                    f"etcd at {self._client.where} is version {version}; 3.5 or newer is needed", cause="unsuitable"
                )
            self._found = await self._look(version)
            self._at = time.monotonic()
        return self._found

    async def _look(self, version: str) -> ProviderInfo:
        """A write is acknowledged when a majority of the voting members has it on disk."""
        try:
            found = await self._client.call("/v3/cluster/member/list", {})
        except PerdureError:
            return ProviderInfo("etcd", version, "D2", ("the members cannot be listed: a single one is assumed",))
        voters = [member for member in found.get("members", []) if not member.get("isLearner")]
        settings = (("voting members", str(len(voters))),)
        return ProviderInfo("etcd", version, "D4" if len(voters) > 1 else "D2", settings=settings)


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor."""
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[:2])
