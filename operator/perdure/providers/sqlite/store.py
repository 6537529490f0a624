"""A Store in one SQLite file. Writes go through the single `Writer`; reads run on their own connections."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from perdure.durable.effects import BucketAddress
from perdure.durable.records import (
    Claim,
    Commit,
    CommitOutcome,
    ForeignApply,
    HostRecord,
    InstanceInfo,
    InstancePage,
    KeyPage,
    OwnerToken,
    ProviderInfo,
    StoredResult,
    WorkerId,
)
from perdure.errors import ProviderUnavailable
from perdure.providers.sqlite import operations as ops
from perdure.providers.sqlite.schema import connect
from perdure.providers.sqlite.writer import Writer

T = TypeVar("T")
_READERS = 2
_KEYS_A_QUERY = 500
_PURGE_STEP = 1000


class SqliteStore:
    """Implements `perdure.durable.store.Store`; made by `open`. Several may share a file, in several processes."""

    def __init__(self, path: Path, worker: WorkerId, writer: Writer) -> None:
        self._path = path
        self._owner = ops.Owner.of(worker)
        self._writer = writer
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False

    @classmethod
    async def open(cls, path: Path, worker: WorkerId) -> SqliteStore:
        """Create or open the file. Raises `ProviderUnavailable` with the reason."""

        def prepare() -> Writer:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ProviderUnavailable(f"the directory of {path} cannot be made: {error.strerror}") from error
            return Writer(path)

        return cls(path, worker, await asyncio.to_thread(prepare))

    async def ping(self) -> ProviderInfo:
        # An empty transaction proves that the file takes writes.
        await self._writer.submit(lambda db: None)
        return ProviderInfo("sqlite", sqlite3.sqlite_version, "D2")

    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        return await self._writer.submit(lambda db: ops.claim(db, self._owner, instance, nonce, host))

    async def verify(self, instance: str, token: OwnerToken) -> None:
        await self._read(lambda db: ops.require_owner(db, self._owner, instance, token))

    async def commit(self, commit: Commit) -> CommitOutcome:
        return await self._writer.submit(lambda db: ops.commit(db, self._owner, commit, _now_ms()))

    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        await self._writer.submit(lambda db: ops.applied(db, self._owner, instance, token, sequence))

    async def result(self, instance: str, key: str) -> StoredResult | None:
        row = await self._one(
            "SELECT fingerprint, body FROM results WHERE worker=? AND instance=? AND key=? AND expires_ms > ?",
            (self._owner.worker, instance.encode(), key.encode(), _now_ms()),
        )
        return StoredResult(key, row[0], row[1]) if row else None

    async def apply_foreign(self, apply: ForeignApply) -> CommitOutcome:
        return await self._writer.submit(lambda db: ops.apply_foreign(db, self._owner, apply, _now_ms()))

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        where, wanted, now = self._owner.bucket(bucket), [key.encode() for key in keys], _now_ms()

        def read(db: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for start in range(0, len(wanted), _KEYS_A_QUERY):
                some = wanted[start : start + _KEYS_A_QUERY]
                marks = ",".join("?" * len(some))
                statement = (
                    "SELECT key, value FROM entries WHERE owner=? AND bucket=? AND instance=? "
                    f"AND (expires_ms IS NULL OR expires_ms > ?) AND key IN ({marks})"
                )
                found.update(db.execute(statement, (*where, now, *some)).fetchall())
            return found

        values = await self._read(read)
        return [values.get(key) for key in wanted]

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        after = b"" if cursor is None else cursor.encode()
        comparison = ">=" if cursor is None else ">"
        rows = await self._all(
            "SELECT key FROM entries WHERE owner=? AND bucket=? AND instance=? "
            f"AND key {comparison} ? AND (expires_ms IS NULL OR expires_ms > ?) ORDER BY key LIMIT ?",
            (*self._owner.bucket(bucket), after, _now_ms(), limit + 1),
        )
        names = [bytes(row[0]).decode() for row in rows]
        return KeyPage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def count(self, bucket: BucketAddress) -> int:
        row = await self._one(
            "SELECT count(*) FROM entries WHERE owner=? AND bucket=? AND instance=?", self._owner.bucket(bucket)
        )
        return int(row[0]) if row else 0

    async def instances(self, cursor: str | None, limit: int) -> InstancePage:
        after = b"" if cursor is None else cursor.encode()
        rows = await self._all(
            "SELECT name FROM instances WHERE worker=? AND name > ? AND sequence > 0 ORDER BY name LIMIT ?",
            (self._owner.worker, after, limit + 1),
        )
        names = [bytes(row[0]).decode() for row in rows]
        return InstancePage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def instance(self, instance: str) -> InstanceInfo | None:
        name = instance.encode()
        row = await self._one(
            "SELECT sequence, epoch, nonce, host, "
            "(SELECT count(*) FROM journal j WHERE j.worker=i.worker AND j.instance=i.name), "
            "(SELECT coalesce(sum(length(entry)), 0) FROM journal j WHERE j.worker=i.worker AND j.instance=i.name) "
            "FROM instances i WHERE worker=? AND name=? AND sequence > 0",
            (self._owner.worker, name),
        )
        if row is None:
            return None
        sequence, epoch, nonce, host, entries, size = row
        return InstanceInfo(instance, sequence, OwnerToken(epoch, nonce), host, entries, size)

    async def delete_instance(self, instance: str) -> bool:
        return await self._writer.submit(lambda db: ops.delete_instance(db, self._owner, instance))

    async def announce(self, record: HostRecord, ttl_ms: int) -> list[HostRecord]:
        return await self._writer.submit(lambda db: ops.announce(db, self._owner, record, ttl_ms, _now_ms()))

    async def leave(self, host: str) -> None:
        await self._writer.submit(lambda db: ops.leave(db, self._owner, host))

    async def purge(self, progress: Callable[[int], None]) -> int:
        total = 0
        while removed := await self._writer.submit(lambda db: ops.purge_some(db, self._owner, _PURGE_STEP)):
            total += removed
            progress(total)
        return total

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()

    async def _one(self, statement: str, values: Sequence[object]) -> tuple[Any, ...] | None:
        rows = await self._all(statement, values)
        return rows[0] if rows else None

    async def _all(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        return await self._read(lambda db: db.execute(statement, values).fetchall())

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise ProviderUnavailable("the store is closed")

        def run() -> T:
            try:
                return query(self._reader())
            except sqlite3.Error as error:
                raise ProviderUnavailable(f"the SQLite file refused a read: {error}") from error

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._path, writer=False)
            self._connections.append(connection)
        return connection


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
