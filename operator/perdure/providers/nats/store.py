"""Buckets in a key-value stream of NATS. One apply is one atomic batch: the dedup record, what was read, all writes.

The stream keeps a subject's last message; that message's sequence is the key's revision. A batch is stored whole, or,
where one of its messages expects another revision, not at all.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from perdure.durable.effects import BucketAddress
from perdure.durable.overtaking import Mark, Overtaking, Seen, Write, now_ms
from perdure.durable.planning import Held, Room, Spot
from perdure.durable.policy import BucketLimits
from perdure.durable.records import Committed, ForeignApply, KeyPage, ProviderInfo, WorkerId
from perdure.errors import ProviderUnavailable
from perdure.providers.nats.client import Message, NatsClient
from perdure.providers.nats.config import NatsConfig
from perdure.providers.nats.failures import AGAIN, NO_STREAM, NOT_FOUND, WRONG_LAST, Refusal, translate
from perdure.providers.nats.server import EXPECTED, ServerCheck
from perdure.providers.nats.subjects import Subjects, key_of

_EXPIRES = "Perdure-Expires"
_DELETED = {"KV-Operation": "DEL", "Nats-TTL": "60"}
_LINGER = 60
_LONGEST_TTL = 10 * 365 * 24 * 3600
_BATCHES = 20
_READ = 200


@dataclass(frozen=True, slots=True)
class _Row:
    """A subject's last message; revision 0: there is none. `held`: None where that is a deletion, or nothing."""

    revision: int = 0
    data: bytes = b""
    held: Held | None = None


class NatsStore:
    """Implements `perdure.durable.store.ForeignStore`; made by `open`."""

    def __init__(self, config: NatsConfig, subjects: Subjects) -> None:
        self._client = NatsClient(config)
        self._subjects = subjects
        self._limits = config.limits
        self._check = ServerCheck(self._client, config, subjects)
        self._overtaking = Overtaking(self._read, self._write, self._room, lambda: f"NATS at {self._client.where}")

    @classmethod
    async def open(cls, config: NatsConfig, worker: WorkerId) -> NatsStore:
        """Nothing is connected yet: `ping` says how the server is."""
        return cls(config, Subjects(config.bucket, worker))

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
        await self._check.ready()
        return await self._overtaking.apply(apply)

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        found = await self._rows([self._subjects.key(bucket, key) for key in keys])
        return [None if row.held is None else row.held.data for row in _live(found)]

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        waiting = sorted(
            key for key in map(key_of, await self._names(f"{self._subjects.bucket(bucket)}.*"))
            if cursor is None or key > cursor
        )  # fmt: skip
        names: list[str] = []
        at = 0
        while at < len(waiting) and len(names) <= limit:
            some = waiting[at : at + limit + 1 - len(names)]
            at += len(some)
            rows = _live(await self._rows([self._subjects.key(bucket, key) for key in some]))
            names += [key for key, row in zip(some, rows, strict=True) if row.held is not None]
        return KeyPage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def count(self, bucket: BucketAddress) -> int:
        rows = await self._rows(await self._names(f"{self._subjects.bucket(bucket)}.*"))
        return sum(row.held is not None for row in _live(rows))

    async def purge(self, progress: Callable[[int], None]) -> int:
        try:
            done = await self._client.api(f"STREAM.PURGE.{self._subjects.stream}", {"filter": self._subjects.worker})
        except Refusal as refusal:
            if refusal.code == NO_STREAM:
                return 0
            raise translate(refusal, self._client.where) from refusal
        self._overtaking.forget()
        removed = int(done.get("purged", 0))
        progress(removed)
        return removed

    async def _names(self, pattern: str) -> list[str]:
        """The subjects that match, from the stream's leader, in no order."""
        found: list[str] = []
        while True:
            body = {"subjects_filter": pattern, "offset": len(found)}
            try:
                answer = await self._client.api(f"STREAM.INFO.{self._subjects.stream}", body)
            except Refusal as refusal:
                if refusal.code == NO_STREAM:
                    return []
                raise translate(refusal, self._client.where) from refusal
            page = list((answer["state"].get("subjects") or {}).keys())
            found += page
            if not page or len(found) >= int(answer.get("total", 0)):
                return found

    async def _rows(self, subjects: Sequence[str]) -> list[_Row]:
        found: list[_Row] = []
        for start in range(0, len(subjects), _READ):
            found += await asyncio.gather(*map(self._row, subjects[start : start + _READ]))
        return found

    async def _row(self, subject: str) -> _Row:
        """From the stream's leader: what was acknowledged is seen."""
        try:
            body = {"last_by_subj": subject}
            answer = await self._client.api(f"STREAM.MSG.GET.{self._subjects.stream}", body)
        except Refusal as refusal:
            if refusal.code in (NOT_FOUND, NO_STREAM):
                return _Row()
            raise translate(refusal, self._client.where) from refusal
        message = answer["message"]
        data, headers = b64decode(message.get("data", "")), _headers(b64decode(message.get("hdrs", "")))
        if headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers:
            return _Row(int(message["seq"]), data)
        expires = headers.get(_EXPIRES)
        return _Row(int(message["seq"]), data, Held(data, None if expires is None else int(expires)))

    async def _read(self, origin: str | None, spots: Sequence[Spot]) -> Seen:
        marks = [] if origin is None else [self._subjects.mark(origin)]
        rows = await self._rows([*marks, *(self._subjects.key(*spot) for spot in spots)])
        first = rows.pop(0) if marks else _Row()
        mark = Mark.unpack(first.revision, first.data) if first.revision else Mark()
        pairs = list(zip(spots, rows, strict=True))
        return Seen(mark, {spot: row.held for spot, row in pairs}, {spot: row.revision for spot, row in pairs})

    async def _room(self, bucket: BucketAddress, keys: Sequence[str], most: int) -> Room:
        note = await self._row(self._subjects.note(bucket))
        values = await self.get_many(bucket, keys)
        present = {key for key, value in zip(keys, values, strict=True) if value is not None}
        # Deleted keys, and those past their time, are looked at only if it matters.
        names = await self._names(f"{self._subjects.bucket(bucket)}.*")
        count = len(names) if len(names) + len(keys) <= most else await self.count(bucket)
        return Room(count, present, note.revision)

    async def _write(self, write: Write) -> int | Seen:
        for attempt in range(_BATCHES):
            try:
                answer = await self._client.publish(self._batch(write))
                return int(answer["seq"])
            except Refusal as refusal:
                if refusal.code in WRONG_LAST:
                    return await self._read(write.origin, write.spots)
                if refusal.code not in AGAIN:
                    raise translate(refusal, self._client.where) from refusal
            await asyncio.sleep(random.uniform(0, 0.005 * 2 ** min(attempt, 6)))  # noqa: S311 - jitter
        raise ProviderUnavailable(f"NATS at {self._client.where} has too many batches under way", retry_after=1)

    def _batch(self, write: Write) -> list[Message]:
        """The dedup record, if there is one, comes last: its sequence is that of the acknowledgement. What was read and
        is not changed is written as it is, so that it is compared as well."""
        seen = write.seen
        kept = {spot: seen.held[spot] for spot in write.spots if spot not in write.planned.writes}
        found: list[tuple[str, bytes, dict[str, str]]] = []
        for spot, held in (*write.planned.writes.items(), *kept.items()):
            headers = dict(_DELETED) if held is None else _ends(held)
            if spot in seen.revisions:
                headers[EXPECTED] = str(seen.revisions[spot])
            found.append((self._subjects.key(*spot), b"" if held is None else held.data, headers))
        if write.noted is not None and seen.room is not None:
            found.append((self._subjects.note(write.noted), b"", {EXPECTED: str(seen.room.revision)}))
        if write.origin is not None:
            found.append((self._subjects.mark(write.origin), write.record, {EXPECTED: str(seen.mark.revision)}))
        if len(found) == 1:
            return [Message(*found[0])]
        batch = {"Nats-Batch-Id": secrets.token_hex(16)}
        messages = [
            Message(subject, data, {**headers, **batch, "Nats-Batch-Sequence": str(number)})
            for number, (subject, data, headers) in enumerate(found, start=1)
        ]
        last = messages[-1]
        return [*messages[:-1], Message(last.subject, last.data, {**last.headers, "Nats-Batch-Commit": "1"})]


def _live(rows: Iterable[_Row]) -> list[_Row]:
    """Without what is past its time."""
    now = now_ms()
    return [row if row.held is None or row.held.live(now) else _Row(row.revision) for row in rows]


def _ends(held: Held) -> dict[str, str]:
    if held.expires_ms is None:
        return {}
    seconds = max(0, held.expires_ms - now_ms()) // 1000 + _LINGER
    cleared = {"Nats-TTL": str(seconds)} if seconds < _LONGEST_TTL else {}
    return {_EXPIRES: str(held.expires_ms), **cleared}


def _headers(data: bytes) -> dict[str, str]:
    lines = data.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}
