"""Leases that clear away expired values. Whether a value is there is said by the moment beside it; a lease, which lasts
longer, only takes it out of the database. Values of about the same time to live share one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from perdure.providers.etcd.client import EtcdClient

_LONGEST = 9_000_000_000
"""Seconds that etcd allows."""
_SHORTEST = 8


@dataclass(slots=True)
class _Lease:
    id: str
    until: float


class Leases:
    """`number(ttl_ms)` gives a lease that lasts at least so long, or None where etcd has none that long."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self._held: dict[int, _Lease] = {}
        self._lock = asyncio.Lock()

    async def number(self, ttl_ms: int) -> str | None:
        """Raises as `EtcdClient.call`."""
        seconds = max(_SHORTEST, 1 << (-(-ttl_ms // 1000)).bit_length())
        if 2 * seconds > _LONGEST:
            return None
        async with self._lock:
            held = self._held.get(seconds)
            now = time.monotonic()
            if held is None or held.until <= now:
                granted = await self._client.call("/v3/lease/grant", {"TTL": str(2 * seconds), "ID": "0"})
                # Used for half of its time: what is put at the end of it has the other half.
                held = self._held[seconds] = _Lease(str(granted["ID"]), now + seconds * 0.9)
            return held.id

    def forget(self) -> None:
        """One of them is gone before its time."""
        self._held.clear()
