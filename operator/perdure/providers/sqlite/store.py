"""A Store in one SQLite file. Writes go through the single `Writer`; reads run on connections of their own."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from perdure.durable.effects import BucketAddress
from perdure.durable.feeds import FeedBounds, FeedPage, Watch
from perdure.durable.inbox import Accepted, Cancelled, Due, NewCall, PendingCall, Taken
from perdure.durable.policy import BucketLimits
from perdure.durable.records import (
    Claim,
    Commit,
    Committed,
    ForeignApply,
    HostRecord,
    InstanceData,
    InstanceInfo,
    InstancePage,
    JournalPage,
    KeyPage,
    OwnerToken,
    Parting,
    ProviderInfo,
    SnapshotWrite,
    StoredResult,
    WorkerId,
)
from perdure.errors import ProviderUnavailable
from perdure.providers.sqlite import buckets, commits, feeds, inbox, instances, results, workers
from perdure.providers.sqlite.owner import Owner, require_owner
from perdure.providers.sqlite.reader import Reader
from perdure.providers.sqlite.writer import Writer

_PURGE_STEP = 1000


class SqliteStore:
    """Implements `perdure.durable.store.Store`; made by `open`. Several may share a file, in several processes."""

    def __init__(self, worker: WorkerId, writer: Writer, reader: Reader) -> None:
        self._owner = Owner.of(worker)
        self._write = writer.submit
        self._read = reader.run
        self._writer = writer
        self._reader = reader

    @classmethod
    async def open(cls, path: Path, worker: WorkerId) -> SqliteStore:
        """Create or open the file. Raises `ProviderUnavailable` with the reason."""

        def prepare() -> Writer:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ProviderUnavailable(f"the directory of {path} cannot be made: {error.strerror}") from error
            return Writer(path)

        return cls(worker, await asyncio.to_thread(prepare), Reader(path))

    @property
    def namespace_is_home(self) -> bool:
        return True

    @property
    def limits(self) -> BucketLimits:
        return BucketLimits()

    async def ping(self) -> ProviderInfo:
        # An empty transaction proves that the file takes writes.
        await self._write(lambda db: None)
        return ProviderInfo("sqlite", sqlite3.sqlite_version, "D2")

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._reader.close)

    # The owner of an instance.

    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        return await self._write(lambda db: commits.claim(db, self._owner, instance, nonce, host))

    async def verify(self, instance: str, token: OwnerToken) -> None:
        await self._read(lambda db: require_owner(db, self._owner, instance, token))

    async def commit(self, commit: Commit) -> Committed:
        return await self._write(lambda db: commits.commit(db, self._owner, commit, _now_ms()))

    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        await self._write(lambda db: commits.applied(db, self._owner, instance, token, sequence))

    async def snapshot(self, write: SnapshotWrite) -> bool:
        return await self._write(lambda db: commits.snapshot(db, self._owner, write))

    async def halt(self, instance: str, token: OwnerToken, reason: bytes | None) -> None:
        await self._write(lambda db: commits.halt(db, self._owner, instance, token, reason))

    async def take(self, instance: str, token: OwnerToken) -> Taken:
        return await self._write(lambda db: inbox.take(db, self._owner, instance, token, _now_ms()))

    async def postpone(self, instance: str, token: OwnerToken, key: str, delay_ms: int, failure: bytes) -> None:
        await self._write(
            lambda db: inbox.postpone(db, self._owner, instance, token, key, _now_ms() + delay_ms, failure)
        )

    # Instances, for anybody.

    async def result(self, instance: str, key: str) -> StoredResult | None:
        return await self._read(lambda db: results.find(db, self._owner, instance, key, _now_ms()))

    async def instances(self, cursor: str | None, limit: int) -> InstancePage:
        return await self._read(lambda db: instances.names(db, self._owner, cursor, limit))

    async def instance(self, instance: str) -> InstanceInfo | None:
        return await self._read(lambda db: instances.info(db, self._owner, instance))

    async def peek(self, instance: str) -> InstanceData | None:
        return await self._read(lambda db: instances.peek(db, self._owner, instance))

    async def journal(self, instance: str, after: int, limit: int) -> JournalPage | None:
        return await self._read(lambda db: instances.journal(db, self._owner, instance, after, limit))

    async def blobs(self, instance: str, digests: Sequence[bytes]) -> list[bytes | None]:
        return await self._read(lambda db: instances.blobs(db, self._owner, instance, digests))

    async def delete_instance(self, instance: str, parting: Parting | None = None) -> bool:
        return await self._write(lambda db: instances.delete(db, self._owner, instance, parting, _now_ms()))

    # Asynchronous calls.

    async def enqueue(self, instance: str, call: NewCall, max_pending: int) -> Accepted:
        return await self._write(lambda db: inbox.enqueue(db, self._owner, instance, call, max_pending, _now_ms()))

    async def cancel(self, instance: str, key: str) -> Cancelled:
        return await self._write(lambda db: inbox.cancel(db, self._owner, instance, key, _now_ms()))

    async def pending(self, instance: str, key: str) -> PendingCall | None:
        return await self._read(lambda db: inbox.pending(db, self._owner, instance, key))

    async def inbox(self, instance: str, limit: int) -> list[PendingCall]:
        return await self._read(lambda db: inbox.first_calls(db, self._owner, instance, limit))

    async def due(self, limit: int) -> Due:
        return await self._read(lambda db: inbox.due(db, self._owner, limit, _now_ms()))

    # Buckets.

    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        return await self._write(lambda db: buckets.apply_foreign(db, self._owner, apply, _now_ms()))

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        return await self._read(lambda db: buckets.get_many(db, self._owner, bucket, keys, _now_ms()))

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        return await self._read(lambda db: buckets.list_keys(db, self._owner, bucket, cursor, limit, _now_ms()))

    async def count(self, bucket: BucketAddress) -> int:
        return await self._read(lambda db: buckets.count(db, self._owner, bucket, _now_ms()))

    # Watched buckets.

    async def watch(self, bucket: BucketAddress, instance: str, bounds: FeedBounds) -> None:
        await self._write(lambda db: feeds.watch(db, self._owner, bucket, instance, bounds, _now_ms()))

    async def watches(self) -> list[Watch]:
        return await self._read(lambda db: feeds.watches(db, self._owner, _now_ms()))

    async def unwatch(self, bucket: BucketAddress, idle_ms: int) -> None:
        await self._write(lambda db: feeds.unwatch(db, self._owner, bucket, idle_ms, _now_ms()))

    async def changes(self, bucket: BucketAddress, after: int, limit: int) -> FeedPage | None:
        return await self._read(lambda db: feeds.changes(db, self._owner, bucket, after, limit))

    async def told(self, bucket: BucketAddress, life: str, number: int) -> None:
        await self._write(lambda db: feeds.told(db, self._owner, bucket, life, number))

    # The Worker.

    async def announce(self, record: HostRecord, ttl_ms: int) -> list[HostRecord]:
        return await self._write(lambda db: workers.announce(db, self._owner, record, ttl_ms, _now_ms()))

    async def leave(self, host: str) -> None:
        await self._write(lambda db: workers.leave(db, self._owner, host))

    async def keep_component(self, digest: str, data: bytes, spared: Sequence[str] = ()) -> None:
        await self._write(lambda db: workers.keep_component(db, self._owner, digest, data, spared))

    async def component(self, digest: str) -> bytes | None:
        return await self._read(lambda db: workers.component(db, self._owner, digest))

    async def components(self) -> dict[str, int]:
        return await self._read(lambda db: workers.components(db, self._owner))

    async def purge(self, progress: Callable[[int], None]) -> int:
        total = 0
        while removed := await self._write(lambda db: workers.purge_some(db, self._owner, _PURGE_STEP, _now_ms())):
            total += removed
            progress(total)
        return total


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
