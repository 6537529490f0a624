"""Buckets on etcd. One apply is one transaction: the dedup record, whatever was read, and all writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perdure.durable.effects import BucketAddress
from perdure.durable.overtaking import Mark, Overtaking, Seen, Write, now_ms
from perdure.durable.planning import Held, Room, Spot
from perdure.durable.policy import BucketLimits
from perdure.durable.records import Committed, ForeignApply, KeyPage, ProviderInfo, WorkerId
from perdure.providers.etcd.client import EtcdClient, Json
from perdure.providers.etcd.config import EtcdConfig
from perdure.providers.etcd.failures import Refusal
from perdure.providers.etcd.keys import Keys, after, pack, unpack
from perdure.providers.etcd.leases import Leases
from perdure.providers.etcd.requests import (
    count_keys,
    delete,
    list_keys,
    put,
    read,
    read_count,
    read_pages,
    read_rows,
    revision_is,
    text,
)
from perdure.providers.etcd.server import ServerCheck

_READ = 100
_PURGED = 1000
_PAGE = 1000


class EtcdStore:
    """Implements `perdure.durable.store.ForeignStore`; made by `open`."""

    def __init__(self, config: EtcdConfig, keys: Keys) -> None:
        self._client = EtcdClient(config)
        self._keys = keys
        self._limits = config.limits
        self._chunk = min(_READ, config.max_txn_ops)
        self._leases = Leases(self._client)
        self._check = ServerCheck(self._client, keys.probe)
        self._overtaking = Overtaking(self._read, self._write, self._room, lambda: f"etcd at {self._client.where}")

    @classmethod
    async def open(cls, config: EtcdConfig, worker: WorkerId) -> EtcdStore:
        """Nothing is connected yet: `ping` says how the server is."""
        return cls(config, Keys(config.prefix, worker))

    @property
    def namespace_is_home(self) -> bool:
        return True

    @property
    def limits(self) -> BucketLimits:
        return self._limits

    async def ping(self) -> ProviderInfo:
        return await self._check.run()

    async def close(self) -> None:
        await self._client.close()

    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        return await self._overtaking.apply(apply)

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        base = self._keys.bucket(bucket)
        found: list[bytes | None] = []
        for start in range(0, len(keys), self._chunk):
            some = [base + key.encode() for key in keys[start : start + self._chunk]]
            found += [None if held is None else held.data for held in await self._live(some)]
        return found

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        base = self._keys.bucket(bucket)
        start, end, ends = base, after(base), self._keys.ends(bucket)
        if cursor is not None:
            start += cursor.encode() + b"\0"
        names: list[str] = []
        while True:
            answer = await self._client.call("/v3/kv/txn", {"success": [list_keys(start, end, limit + 1), read(ends)]})
            page, noted = read_pages(answer)
            gone = await self._expired([row.key for row in page]) if noted else set()
            names += [row.key[len(base) :].decode() for row in page if row.key not in gone]
            if len(names) > limit:
                return KeyPage(names[:limit], names[limit - 1])
            if len(page) <= limit:
                return KeyPage(names, None)
            start = page[-1].key + b"\0"

    async def count(self, bucket: BucketAddress) -> int:
        return await self._count(bucket, 0)

    async def _count(self, bucket: BucketAddress, enough: int) -> int:
        """Of live keys; up to `enough`, those past their time may be among them."""
        base = self._keys.bucket(bucket)
        start, end = base, after(base)
        answer = await self._client.call(
            "/v3/kv/txn", {"success": [count_keys(start, end), read(self._keys.ends(bucket))]}
        )
        found, noted = read_count(answer), read_pages(answer)[1]
        if not noted or found <= enough:
            return found
        # Leases end later than the values that they clear away.
        while True:
            (page,) = read_pages(await self._client.call("/v3/kv/txn", {"success": [list_keys(start, end, _PAGE)]}))
            found -= len(await self._expired([row.key for row in page]))
            if len(page) < _PAGE:
                return found
            start = page[-1].key + b"\0"

    async def purge(self, progress: Callable[[int], None]) -> int:
        removed = 0
        start, end = self._keys.worker, after(self._keys.worker)
        while True:
            (page,) = read_pages(await self._client.call("/v3/kv/txn", {"success": [list_keys(start, end, _PURGED)]}))
            if not page:
                return removed
            last = page[-1].key + b"\0"
            await self._client.call("/v3/kv/deleterange", {"key": text(start), "range_end": text(last)})
            removed += len(page)
            progress(removed)
            start = last

    async def _live(self, keys: Sequence[bytes]) -> list[Held | None]:
        answer = await self._client.call("/v3/kv/txn", {"success": [read(key) for key in keys]})
        now = now_ms()
        held = [None if row is None else unpack(row.value) for row in read_rows(answer)]
        return [one if one is not None and one.live(now) else None for one in held]

    async def _expired(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of these are still there, but past their time."""
        found: set[bytes] = set()
        for start in range(0, len(keys), self._chunk):
            some = keys[start : start + self._chunk]
            found |= {key for key, held in zip(some, await self._live(some), strict=True) if held is None}
        return found

    async def _read(self, origin: str | None, spots: Sequence[Spot]) -> Seen:
        return _seen(await self._client.call("/v3/kv/txn", {"success": self._reads(origin, spots)}), origin, spots)

    def _reads(self, origin: str | None, spots: Sequence[Spot]) -> list[Json]:
        marks = [] if origin is None else [read(self._keys.mark(origin))]
        return [*marks, *(read(self._key(spot)) for spot in spots)]

    async def _room(self, bucket: BucketAddress, keys: Sequence[str], most: int) -> Room:
        (note,) = read_rows(await self._client.call("/v3/kv/txn", {"success": [read(self._keys.note(bucket))]}))
        values = await self.get_many(bucket, keys)
        present = {key for key, value in zip(keys, values, strict=True) if value is not None}
        count = await self._count(bucket, most - len(keys))
        return Room(count, present, 0 if note is None else note.revision)

    async def _write(self, write: Write) -> int | Seen:
        """One transaction; where it finds something changed, it reads all anew."""
        try:
            answer = await self._client.call("/v3/kv/txn", await self._transaction(write))
        except Refusal:
            self._leases.forget()
            return write.seen
        return (
            int(answer["header"]["revision"]) if answer.get("succeeded") else _seen(answer, write.origin, write.spots)
        )

    async def _transaction(self, write: Write) -> Json:
        seen = write.seen
        compare = [revision_is(self._key(spot), seen.revisions[spot]) for spot in write.spots]
        success: list[Json] = []
        if write.origin is not None:
            mark = self._keys.mark(write.origin)
            compare.append(revision_is(mark, seen.mark.revision))
            success.append(put(mark, write.record))
        if write.noted is not None and seen.room is not None:
            note = self._keys.note(write.noted)
            compare.append(revision_is(note, seen.room.revision))
            success.append(put(note, b""))
        ends: set[bytes] = set()
        for spot, held in write.planned.writes.items():
            key = self._key(spot)
            if held is None:
                success.append(delete(key))
                continue
            success.append(put(key, pack(held), await self._lease(held)))
            if held.expires_ms is not None:
                ends.add(self._keys.ends(spot[0]))
        success += [put(key, b"") for key in ends]
        return {"compare": compare, "success": success, "failure": self._reads(write.origin, write.spots)}

    async def _lease(self, held: Held) -> str | None:
        return None if held.expires_ms is None else await self._leases.number(max(held.expires_ms - now_ms(), 0))

    def _key(self, spot: Spot) -> bytes:
        return self._keys.bucket(spot[0]) + spot[1].encode()


def _seen(answer: Json, origin: str | None, spots: Sequence[Spot]) -> Seen:
    """Of the answer to `_reads`."""
    rows = read_rows(answer)
    first, others = (None, rows) if origin is None else (rows[0], rows[1:])
    held = {spot: None if row is None else unpack(row.value) for spot, row in zip(spots, others, strict=True)}
    revisions = {spot: 0 if row is None else row.revision for spot, row in zip(spots, others, strict=True)}
    return Seen(Mark() if first is None else Mark.unpack(first.revision, first.value), held, revisions)
