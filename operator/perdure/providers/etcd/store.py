"""Buckets on etcd. One apply is one transaction: the dedup record, whatever was read, and all writes."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from perdure.durable.effects import BucketAddress, decode_outcomes, encode_outcomes
from perdure.durable.planning import Held, Planned, Spot, looked_at, plan
from perdure.durable.policy import BucketLimits
from perdure.durable.records import CommitStatus, Committed, ForeignApply, KeyPage, ProviderInfo, WorkerId
from perdure.errors import ProviderUnavailable
from perdure.providers.etcd.client import EtcdClient, Json
from perdure.providers.etcd.config import EtcdConfig
from perdure.providers.etcd.failures import Refusal
from perdure.providers.etcd.keys import Keys, after, pack, unpack
from perdure.providers.etcd.leases import Leases
from perdure.providers.etcd.requests import Row, delete, list_keys, put, read, read_pages, read_rows, revision_is, text
from perdure.providers.etcd.server import ServerCheck

_ATTEMPTS = 32
_READ = 100
_PURGED = 1000
_REMEMBERED = 10_000
_SMALL = 64
_SEQUENCE = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class _Mark:
    """The dedup record; revision 0: there is none."""

    revision: int = 0
    sequence: int = -1
    outcomes: bytes = b""


@dataclass(slots=True)
class _Seen:
    """What a transaction stands on. `revisions`: of the keys that decide; 0 where there is none."""

    mark: _Mark
    held: dict[Spot, Held | None] = field(default_factory=dict)
    revisions: dict[Spot, int] = field(default_factory=dict)


class EtcdStore:
    """Implements `perdure.durable.store.ForeignStore`; made by `open`."""

    def __init__(self, config: EtcdConfig, keys: Keys) -> None:
        self._client = EtcdClient(config)
        self._keys = keys
        self._limits = config.limits
        self._chunk = min(_READ, config.max_txn_ops)
        self._leases = Leases(self._client)
        self._check = ServerCheck(self._client, keys.probe)
        # The last record of an origin is mostly our own, so that it need not be read before the next one.
        self._marks: OrderedDict[str, _Mark] = OrderedDict()

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
        spots = looked_at(apply.effects)
        seen = await self._read(apply.origin, spots) if spots else _Seen(self._marks.get(apply.origin, _Mark()))
        for attempt in range(_ATTEMPTS):
            if apply.sequence <= seen.mark.sequence:
                self._remember(apply.origin, seen.mark)
                same = apply.sequence == seen.mark.sequence
                return Committed(CommitStatus.DUPLICATE, decode_outcomes(seen.mark.outcomes) if same else [])
            planned = plan(apply.effects, seen.held, _now_ms())
            try:
                answer = await self._write(apply, seen, planned, spots)
            except Refusal:
                self._leases.forget()
                continue
            if answer.get("succeeded"):
                outcomes = encode_outcomes(planned.outcomes)
                revision = int(answer["header"]["revision"])
                self._remember(apply.origin, _Mark(revision, apply.sequence, outcomes))
                return Committed(CommitStatus.APPLIED, list(planned.outcomes))
            seen = _seen(answer, spots)
            if attempt:
                await asyncio.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, 7)))  # noqa: S311 - jitter
        raise ProviderUnavailable(
            f"etcd at {self._client.where}: others changed the same keys {_ATTEMPTS} times in a row"
        )

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
        base = self._keys.bucket(bucket)
        body = {"key": text(base), "range_end": text(after(base)), "count_only": True}
        return int((await self._client.call("/v3/kv/range", body)).get("count", 0))

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
        now = _now_ms()
        held = [None if row is None else unpack(row.value) for row in read_rows(answer)]
        return [one if one is not None and one.live(now) else None for one in held]

    async def _expired(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of these are still there, but past their time."""
        found: set[bytes] = set()
        for start in range(0, len(keys), self._chunk):
            some = keys[start : start + self._chunk]
            found |= {key for key, held in zip(some, await self._live(some), strict=True) if held is None}
        return found

    async def _read(self, origin: str, spots: Sequence[Spot]) -> _Seen:
        return _seen(await self._client.call("/v3/kv/txn", {"success": self._reads(origin, spots)}), spots)

    def _reads(self, origin: str, spots: Sequence[Spot]) -> list[Json]:
        return [read(self._keys.mark(origin)), *(read(self._key(spot)) for spot in spots)]

    async def _write(self, apply: ForeignApply, seen: _Seen, planned: Planned, spots: Sequence[Spot]) -> Json:
        """One transaction; where it finds something changed, it reads all anew."""
        mark = self._keys.mark(apply.origin)
        compare = [revision_is(mark, seen.mark.revision)]
        compare += [revision_is(self._key(spot), seen.revisions[spot]) for spot in spots]
        record = _SEQUENCE.pack(apply.sequence) + encode_outcomes(planned.outcomes)
        success = [put(mark, record)]
        for spot, held in planned.writes.items():
            key = self._key(spot)
            success.append(delete(key) if held is None else put(key, pack(held), await self._lease(held)))
        ends = {
            self._keys.ends(spot[0]) for spot, held in planned.writes.items() if held and held.expires_ms is not None
        }
        success += [put(key, b"") for key in ends]
        body = {"compare": compare, "success": success, "failure": self._reads(apply.origin, spots)}
        return await self._client.call("/v3/kv/txn", body)

    async def _lease(self, held: Held) -> str | None:
        return None if held.expires_ms is None else await self._leases.number(max(held.expires_ms - _now_ms(), 0))

    def _key(self, spot: Spot) -> bytes:
        return self._keys.bucket(spot[0]) + spot[1].encode()

    def _remember(self, origin: str, mark: _Mark) -> None:
        if len(mark.outcomes) > _SMALL:
            self._marks.pop(origin, None)
            return
        self._marks[origin] = mark
        self._marks.move_to_end(origin)
        if len(self._marks) > _REMEMBERED:
            self._marks.popitem(last=False)


def _seen(answer: Json, spots: Sequence[Spot]) -> _Seen:
    """Of the answer to `_reads`."""
    first, *others = read_rows(answer)
    held = {spot: None if row is None else unpack(row.value) for spot, row in zip(spots, others, strict=True)}
    revisions = {spot: 0 if row is None else row.revision for spot, row in zip(spots, others, strict=True)}
    return _Seen(_mark(first), held, revisions)


def _mark(row: Row | None) -> _Mark:
    if row is None:
        return _Mark()
    return _Mark(row.revision, _SEQUENCE.unpack_from(row.value)[0], row.value[_SEQUENCE.size :])


def _now_ms() -> int:
    """The hosts' clocks: etcd tells no time that is fine enough."""
    return time.time_ns() // 1_000_000
