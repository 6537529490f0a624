"""The Redis store's feeds of watched buckets, packed as `functions/1-feeds.lua` says.

A bucket of the Namespace may be in another slot than the Worker's index of what it watches. So the index has it before
it is watched, and has it still until it is not: what was begun and not ended is found.
"""

from __future__ import annotations

import secrets
import struct
from typing import cast

from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.feeds import PAGE_BYTES, Change, FeedBounds, FeedPage, Watch
from perdure.providers.redis.base import Base

_SCOPES = {scope.value[0]: scope for scope in (Scope.WORKER, Scope.NAMESPACE)}
_SIZE = struct.Struct(">I")
_Page = tuple[bytes, bytes, bytes, bytes, list[bytes]]


class Feeds(Base):
    """Implements `FeedStore`."""

    async def watch(self, bucket: BucketAddress, instance: str, bounds: FeedBounds) -> None:
        await self._client.call("note_watch", [self._keys.watched], _named(bucket))
        await self._of(bucket).call(
            "watch",
            self._feed(bucket),
            self._keys.prefix,
            self._keys.instance(instance)[0],
            secrets.token_hex(8),
            bounds.changes,
            bounds.bytes,
        )

    async def watches(self) -> list[Watch]:
        found = []
        for bucket in await self._watched():
            reply = await self._of(bucket).call("watching", self._feed(bucket), self._keys.prefix)
            if reply is not None:
                writer, idle_ms = cast("tuple[bytes, bytes]", reply)
                found.append(Watch(bucket, self._keys.instance_of(writer), int(idle_ms)))
        return found

    async def unwatch(self, bucket: BucketAddress, idle_ms: int) -> None:
        if await self._of(bucket).call("unwatch", self._feed(bucket), self._keys.prefix, idle_ms):
            await self._client.call("drop_watch", [self._keys.watched], _named(bucket))

    async def changes(self, bucket: BucketAddress, after: int, limit: int) -> FeedPage | None:
        reply = await self._of(bucket).call("changes", self._feed(bucket), self._keys.prefix, after, limit, PAGE_BYTES)
        if reply is None:
            return None
        life, reached, first, mine, page = cast("_Page", reply)
        return FeedPage(
            life.decode(), int(reached), [_change(int(first) + at, one, mine) for at, one in enumerate(page)]
        )

    async def told(self, bucket: BucketAddress, life: str, number: int) -> None:
        await self._of(bucket).call("told", self._feed(bucket), self._keys.prefix, life, number)

    async def _watched(self) -> list[BucketAddress]:
        names = cast("list[bytes]", await self._client.call("watches", [self._keys.watched]))
        return [BucketAddress(_SCOPES[name[:1].decode()], name[1:].decode()) for name in names]

    def _feed(self, bucket: BucketAddress) -> list[bytes]:
        return self._keys.bucket(bucket)[3:]


def _named(bucket: BucketAddress) -> str:
    return bucket.scope.value[0] + bucket.name


def _change(number: int, packed: bytes, mine: bytes) -> Change:
    (size,) = _SIZE.unpack_from(packed, 1)
    at = 1 + _SIZE.size + size
    writer = packed[1 + _SIZE.size : at]
    (size,) = _SIZE.unpack_from(packed, at)
    key, value = packed[at + _SIZE.size : at + _SIZE.size + size], packed[at + _SIZE.size + size :]
    return Change(number, key.decode(), value if packed[:1] == b"s" else None, writer == mine)
