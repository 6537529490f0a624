"""What the Redis store keeps of a Worker as a whole: hosts, components; and how all of it is deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from perdure.durable.records import HostRecord
from perdure.providers.redis.base import Base
from perdure.providers.redis.keys import pack_digest, unpack_digest

_SCAN = 500


class WorkerData(Base):
    """Implements `WorkerStore`."""

    async def announce(self, record: HostRecord, ttl_ms: int) -> list[HostRecord]:
        reply = await self._client.call("announce", self._keys.hosts, record.host, record.url, ttl_ms)
        flat = [item.decode() for item in cast("list[bytes]", reply)]
        return [HostRecord(host, url) for host, url in zip(flat[::2], flat[1::2], strict=True)]

    async def leave(self, host: str) -> None:
        await self._client.call("leave", self._keys.hosts, host)

    async def keep_component(self, digest: str, data: bytes, spared: Sequence[str] = ()) -> None:
        """The bytes travel only if they are not kept yet."""
        packed, keys = pack_digest(digest), [self._keys.used_components, self._keys.components]
        kept = await self._client.call("drop_components", keys, packed, *map(pack_digest, spared))
        if not kept:
            await self._client.call("keep_component", [self._keys.components], packed, data)

    async def component(self, digest: str) -> bytes | None:
        return cast("bytes | None", await self._client.call("component", [self._keys.components], pack_digest(digest)))

    async def components(self) -> dict[str, int]:
        flat = cast("list[bytes]", await self._client.call("components", [self._keys.used_components]))
        return {unpack_digest(digest): int(number) for digest, number in zip(flat[::2], flat[1::2], strict=True)}

    async def purge(self, progress: Callable[[int], None]) -> int:
        removed, cursor = 0, 0
        # A SCAN names no key, so that a cluster would not say that it was sent to the wrong node.
        await self.components()
        while True:
            reply = await self._client.command("SCAN", cursor, "MATCH", self._keys.prefix + "*", "COUNT", _SCAN)
            position, names = cast("tuple[int | bytes, list[bytes]]", reply)
            cursor = int(position)
            if names:
                removed += cast("int", await self._client.command("UNLINK", *names))
                progress(removed)
            if cursor == 0:
                return removed
