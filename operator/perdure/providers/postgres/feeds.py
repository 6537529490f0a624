"""The PostgreSQL store's feeds of watched buckets, each operation as one call of a function in the database."""

from __future__ import annotations

import secrets

from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.feeds import PAGE_BYTES, Change, FeedBounds, FeedPage, Watch
from perdure.providers.postgres.effects import LONGEST
from perdure.providers.postgres.owned import Owned

_WATCH = "SELECT SCHEMA.watch_VERSION($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_WATCHES = (
    "SELECT b.owner, b.name, w.instance, SCHEMA.now_ms_VERSION() - w.renewed_ms AS idle "
    "FROM SCHEMA.watches w JOIN SCHEMA.buckets b ON b.bucket = w.bucket WHERE w.worker = $1"
)
_UNWATCH = "SELECT SCHEMA.unwatch_VERSION($1, $2, $3)"
_CHANGES = "SELECT * FROM SCHEMA.changes_VERSION($1, $2, $3, $4, $5)"
_TOLD = "SELECT SCHEMA.told_VERSION($1, $2, $3, $4)"


class Feeds(Owned):
    """Implements `FeedStore`."""

    async def watch(self, bucket: BucketAddress, instance: str, bounds: FeedBounds) -> None:
        await self._client.fetch(
            _WATCH,
            self._owner.worker,
            *self._owner.bucket(bucket),
            instance.encode(),
            secrets.token_hex(8),
            bounds.changes,
            bounds.bytes,
        )

    async def watches(self) -> list[Watch]:
        rows = await self._client.fetch(_WATCHES, self._owner.worker)
        return [
            Watch(
                BucketAddress(
                    Scope.NAMESPACE if row["owner"] == self._owner.namespace else Scope.WORKER, row["name"].decode()
                ),
                row["instance"].decode(),
                row["idle"],
            )
            for row in rows
        ]

    async def unwatch(self, bucket: BucketAddress, idle_ms: int) -> None:
        await self._client.fetch(_UNWATCH, self._owner.worker, self._hash(bucket), min(idle_ms, LONGEST))

    async def changes(self, bucket: BucketAddress, after: int, limit: int) -> FeedPage | None:
        rows = await self._client.fetch(_CHANGES, self._owner.worker, self._hash(bucket), after, limit, PAGE_BYTES)
        if not rows:
            return None
        found = [
            Change(row["o_number"], row["o_key"].decode(), row["o_value"], row["o_own"])
            for row in rows
            if row["o_number"] is not None
        ]
        return FeedPage(rows[0]["o_life"], rows[0]["o_reached"], found)

    async def told(self, bucket: BucketAddress, life: str, number: int) -> None:
        await self._client.fetch(_TOLD, self._owner.worker, self._hash(bucket), life, number)

    def _hash(self, bucket: BucketAddress) -> bytes:
        return self._owner.bucket(bucket)[0]
