"""A Store on PostgreSQL. Whatever writes is one call of a function (`functions/`), so one round trip and atomic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perdure.durable.effects import BucketAddress, decode_outcomes
from perdure.durable.inbox import Accepted, Cancelled, Due, NewCall, PendingCall
from perdure.durable.policy import BucketLimits
from perdure.durable.records import (
    CommitStatus,
    Committed,
    ForeignApply,
    HostRecord,
    InstanceData,
    InstanceInfo,
    InstancePage,
    JournalPage,
    JournalRecord,
    KeyPage,
    Parting,
    ProviderInfo,
    StoredResult,
    WorkerId,
)
from perdure.providers.postgres.client import PostgresClient
from perdure.providers.postgres.config import PostgresConfig
from perdure.providers.postgres.effects import LONGEST, MAX_KEY, key_bytes, pack, private
from perdure.providers.postgres.feeds import Feeds
from perdure.providers.postgres.owned import fenced
from perdure.providers.postgres.rows import call_of, data_of, info_of
from perdure.providers.postgres.server import look

_PURGE_STEP = 1000
_CALL = "b.key, b.fingerprint, b.payload, b.due_ms, b.attempts, b.begun, b.failure"
_INSTANCE = "SCHEMA.instances i WHERE i.worker = $1 AND i.name = $2"
_RESULT = (
    f"SELECT r.fingerprint, r.body FROM SCHEMA.results r WHERE r.instance = (SELECT i.id FROM {_INSTANCE}) "
    "AND r.key = $3 AND r.expires_ms > SCHEMA.now_ms_VERSION()"
)
_INSTANCES = (
    "SELECT i.name FROM SCHEMA.instances i WHERE i.worker = $1 AND ($2::bytea IS NULL OR i.name > $2) "
    "AND i.sequence > 0 ORDER BY i.name LIMIT $3"
)
_INFO = f"""
SELECT i.*,
  EXISTS (SELECT FROM SCHEMA.due d WHERE d.instance = i.id) AS listed,
  (SELECT count(*) FROM SCHEMA.inbox b WHERE b.instance = i.id) AS pending,
  (SELECT count(*) FROM SCHEMA.journal j WHERE j.instance = i.id) AS entries,
  (SELECT coalesce(sum(length(j.entry)), 0)::bigint FROM SCHEMA.journal j WHERE j.instance = i.id) AS bytes,
  (SELECT count(*) FROM SCHEMA.snapshots s WHERE s.instance = i.id) AS parts,
  (SELECT max(s.sequence) FROM SCHEMA.snapshots s WHERE s.instance = i.id) AS reached,
  (SELECT coalesce(sum(length(s.data)), 0)::bigint FROM SCHEMA.snapshots s WHERE s.instance = i.id) AS held
FROM {_INSTANCE}
"""
_PEEK = f"SELECT d.* FROM (SELECT i.id FROM {_INSTANCE} AND i.sequence > 0) i, LATERAL SCHEMA.data_VERSION(i.id) d"
_JOURNAL = f"""
SELECT i.sequence, i.trimmed,
  ARRAY(SELECT j.entry FROM SCHEMA.journal j WHERE j.instance = i.id AND j.sequence > $3
    ORDER BY j.sequence LIMIT $4) AS entries,
  ARRAY(SELECT j.outcomes FROM SCHEMA.journal j WHERE j.instance = i.id AND j.sequence > $3
    ORDER BY j.sequence LIMIT $4) AS outcomes
FROM (SELECT i.id, i.sequence, coalesce(
  (SELECT min(j.sequence) - 1 FROM SCHEMA.journal j WHERE j.instance = i.id), i.sequence) AS trimmed
  FROM {_INSTANCE} AND i.sequence > 0) i
"""
_BLOBS = (
    f"SELECT b.digest, b.data FROM SCHEMA.blobs b WHERE b.instance = (SELECT i.id FROM {_INSTANCE}) "
    "AND b.digest = ANY ($3)"
)
_DELETE = f"SELECT SCHEMA.delete_VERSION({', '.join(f'${at}' for at in range(1, 19))})"
_ENQUEUE = "SELECT SCHEMA.enqueue_VERSION($1, $2, $3, $4, $5, $6, $7)"
_CANCEL = "SELECT SCHEMA.cancel_VERSION($1, $2, $3)"
_PENDING = f"SELECT {_CALL} FROM SCHEMA.inbox b WHERE b.instance = (SELECT i.id FROM {_INSTANCE}) AND b.key = $3"
_INBOX = (
    f"SELECT {_CALL} FROM SCHEMA.inbox b WHERE b.instance = (SELECT i.id FROM {_INSTANCE}) "
    "ORDER BY b.due_ms, b.number LIMIT $3"
)
_DUE = """
SELECT SCHEMA.now_ms_VERSION() AS now,
  ARRAY(SELECT d.name FROM SCHEMA.due d WHERE d.worker = $1 ORDER BY d.due_ms, d.name LIMIT $2) AS names,
  ARRAY(SELECT d.due_ms FROM SCHEMA.due d WHERE d.worker = $1 ORDER BY d.due_ms, d.name LIMIT $2) AS times
"""
_FOREIGN = f"SELECT * FROM SCHEMA.foreign_VERSION({', '.join(f'${at}' for at in range(1, 18))})"
_GET = (
    "SELECT e.key, e.value FROM SCHEMA.entries e WHERE e.bucket = $1 AND e.key = ANY ($2) "
    "AND (e.expires_ms IS NULL OR e.expires_ms > SCHEMA.now_ms_VERSION())"
)
_KEYS = (
    "SELECT e.key FROM SCHEMA.entries e, SCHEMA.now_ms_VERSION() AS now WHERE e.bucket = $1 AND e.key >= $2 "
    "AND ($3 OR e.key <> $2) AND (e.expires_ms IS NULL OR e.expires_ms > now) ORDER BY e.key LIMIT $4"
)
_COUNT = (
    "SELECT count(*) FROM SCHEMA.entries e, SCHEMA.now_ms_VERSION() AS now WHERE e.bucket = $1 "
    "AND (e.expires_ms IS NULL OR e.expires_ms > now)"
)
_ANNOUNCE = "SELECT * FROM SCHEMA.announce_VERSION($1, $2, $3, $4)"
_LEAVE = "DELETE FROM SCHEMA.hosts h WHERE h.worker = $1 AND h.host = $2"
_KEEP_COMPONENT = "SELECT SCHEMA.keep_component_VERSION($1, $2, $3, $4)"
_COMPONENT = "SELECT c.data FROM SCHEMA.components c WHERE c.worker = $1 AND c.digest = $2"
_COMPONENTS = (
    "SELECT i.component, count(*) FROM SCHEMA.instances i WHERE i.worker = $1 AND i.component > '' GROUP BY i.component"
)
_PURGE = "SELECT SCHEMA.purge_VERSION($1, $2)"


class PostgresStore(Feeds):
    """Implements `perdure.durable.store.Store`; made by `open`."""

    @classmethod
    async def open(cls, config: PostgresConfig, worker: WorkerId) -> PostgresStore:
        """Prepare the connections. A server that does not answer yet is no error here: `ping` says so."""
        return cls(PostgresClient(config), worker)

    @property
    def namespace_is_home(self) -> bool:
        return True

    @property
    def limits(self) -> BucketLimits:
        # Refused when a guest asks for it: an apply that comes after the home commit could never succeed.
        return BucketLimits(key_bytes=MAX_KEY)

    async def ping(self) -> ProviderInfo:
        return await look(self._client)

    async def close(self) -> None:
        await self._client.close()

    # Instances, for anybody.

    async def result(self, instance: str, key: str) -> StoredResult | None:
        row = await self._client.row(_RESULT, *self._place(instance), key.encode())
        return StoredResult(key, row["fingerprint"], row["body"]) if row else None

    async def instances(self, cursor: str | None, limit: int) -> InstancePage:
        after = None if cursor is None else cursor.encode()
        rows = await self._client.fetch(_INSTANCES, self._owner.worker, after, limit + 1)
        names = [row["name"].decode() for row in rows]
        return InstancePage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def instance(self, instance: str) -> InstanceInfo | None:
        row = await self._client.row(_INFO, *self._place(instance))
        known = row is not None and (row["sequence"] or row["pending"] or row["halt"] is not None)
        return info_of(instance, row) if row is not None and known else None

    async def peek(self, instance: str) -> InstanceData | None:
        row = await self._client.row(_PEEK, *self._place(instance))
        return data_of(row) if row else None

    async def journal(self, instance: str, after: int, limit: int) -> JournalPage | None:
        row = await self._client.row(_JOURNAL, *self._place(instance), after, limit)
        if row is None:
            return None
        records = [JournalRecord(*pair) for pair in zip(row["entries"], row["outcomes"], strict=True)]
        return JournalPage(max(after, row["trimmed"]) + 1, records, row["trimmed"], row["sequence"])

    async def blobs(self, instance: str, digests: Sequence[bytes]) -> list[bytes | None]:
        rows = await self._client.fetch(_BLOBS, *self._place(instance), list(digests))
        found: dict[bytes, bytes] = {row["digest"]: row["data"] for row in rows}
        return [found.get(digest) for digest in digests]

    async def delete_instance(self, instance: str, parting: Parting | None = None) -> bool:
        token = (None, None) if parting is None else (parting.token.epoch, parting.token.nonce.encode())
        note = pack(self._owner, [] if parting is None else parting.effects)
        said = await self._client.value(_DELETE, *self._place(instance), private(instance), *token, *note, heavy=True)
        if said == "FENCED":
            raise fenced(instance)
        return bool(said == "GONE")

    # Asynchronous calls.

    async def enqueue(self, instance: str, call: NewCall, max_pending: int) -> Accepted:
        said = await self._client.value(
            _ENQUEUE,
            *self._place(instance),
            key_bytes(call.key),
            call.fingerprint,
            call.payload,
            call.due_ms,
            max_pending,
        )
        return Accepted(said)

    async def cancel(self, instance: str, key: str) -> Cancelled:
        return Cancelled(await self._client.value(_CANCEL, *self._place(instance), key.encode()))

    async def pending(self, instance: str, key: str) -> PendingCall | None:
        row = await self._client.row(_PENDING, *self._place(instance), key.encode())
        return call_of(row) if row else None

    async def inbox(self, instance: str, limit: int) -> list[PendingCall]:
        return [call_of(row) for row in await self._client.fetch(_INBOX, *self._place(instance), limit)]

    async def due(self, limit: int) -> Due:
        row = await self._client.one(_DUE, self._owner.worker, max(limit, 1))
        now, names, times = row["now"], row["names"], row["times"]
        found = [name.decode() for name, due_ms in zip(names, times, strict=True) if due_ms <= now]
        return Due(found[:limit], None if found or not times else times[0], now)

    # Buckets.

    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        arguments = pack(self._owner, apply.effects)
        instance = None if apply.instance is None else apply.instance.encode()
        row = await self._client.one(
            _FOREIGN, self._owner.worker, apply.origin.encode(), apply.sequence, *arguments, instance
        )
        return Committed(CommitStatus[row["o_status"]], decode_outcomes(row["o_outcomes"]))

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        wanted = [key.encode() for key in keys]
        rows = await self._client.fetch(_GET, self._owner.bucket(bucket)[0], wanted)
        found: dict[bytes, bytes] = {row["key"]: row["value"] for row in rows}
        return [found.get(key) for key in wanted]

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        after = b"" if cursor is None else cursor.encode()
        rows = await self._client.fetch(_KEYS, self._owner.bucket(bucket)[0], after, cursor is None, limit + 1)
        names = [row["key"].decode() for row in rows]
        return KeyPage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def count(self, bucket: BucketAddress) -> int:
        return int(await self._client.value(_COUNT, self._owner.bucket(bucket)[0], heavy=True))

    # The Worker.

    async def announce(self, record: HostRecord, ttl_ms: int) -> list[HostRecord]:
        rows = await self._client.fetch(
            _ANNOUNCE, self._owner.worker, record.host.encode(), record.url.encode(), min(ttl_ms, LONGEST)
        )
        return [HostRecord(row["o_host"].decode(), row["o_url"].decode()) for row in rows]

    async def leave(self, host: str) -> None:
        await self._client.fetch(_LEAVE, self._owner.worker, host.encode())

    async def keep_component(self, digest: str, data: bytes, spared: Sequence[str] = ()) -> None:
        others = [other.encode() for other in spared]
        await self._client.fetch(_KEEP_COMPONENT, self._owner.worker, digest.encode(), data, others, heavy=True)

    async def component(self, digest: str) -> bytes | None:
        row = await self._client.row(_COMPONENT, self._owner.worker, digest.encode(), heavy=True)
        return row["data"] if row else None

    async def components(self) -> dict[str, int]:
        rows = await self._client.fetch(_COMPONENTS, self._owner.worker, heavy=True)
        return {row["component"].decode(): row["count"] for row in rows}

    async def purge(self, progress: Callable[[int], None]) -> int:
        total = 0
        while removed := await self._client.value(_PURGE, self._owner.worker, _PURGE_STEP, heavy=True):
            total += removed
            progress(total)
        return total

    def _place(self, instance: str) -> tuple[bytes, bytes]:
        return self._owner.worker, instance.encode()
