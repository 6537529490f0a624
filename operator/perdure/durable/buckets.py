"""Buckets as a guest sees them: limits, read-your-writes and recording over the stores.

Implements `perdure.keyvalue.bucket`. A read's result is recorded; where it came from this invocation's own writes
only a mark is, since replay repeats those writes. Refusals are recorded too, so that a changed manifest does not
change the past.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from perdure.durable.effects import (
    COUNTER_MAX,
    Bounded,
    Conflict,
    Counted,
    Fill,
    Increment,
    Outcome,
    Refused,
    Scope,
    Swap,
    Swapped,
    counted,
)
from perdure.durable.gates import Gates
from perdure.durable.journal import Gate, fingerprint_of
from perdure.durable.overlay import Overlay, place_of
from perdure.durable.policy import UNNAMED, BucketCatalog, BucketPolicy
from perdure.durable.recorder import JournalRecorder
from perdure.durable.room import room_for
from perdure.durable.store import ForeignStore
from perdure.durable.vacancies import InstanceCache
from perdure.errors import ProviderUnavailable
from perdure.keyvalue.bucket import AccessDenied, BucketError, BucketFull, LimitExceeded, NoSuchBucket
from perdure.keyvalue.shared import Shared
from perdure.wasi.recorder import Plain

_OWN_WRITE = True
_COMPARE = "keyvalue.compare-and-swap"
_SET = "keyvalue.set"
_FULL = "the bucket has as many keys as it may (maxKeys)"
_REASONS = {
    "not-a-counter": "the value is not a counter (a decimal number of 64 bits with a sign)",
    "overflow": "the counter would not fit 64 bits with a sign",
    "full": _FULL,
}
_KINDS: dict[str, type[BucketError]] = {
    "no-such-bucket": NoSuchBucket,
    "access-denied": AccessDenied,
    "full": BucketFull,
    "limit": LimitExceeded,
    "other": BucketError,
}


class InstanceBuckets:
    """`KeyValueHost` of one instance."""

    def __init__(
        self,
        instance: str,
        catalog: BucketCatalog,
        stores: Mapping[str, ForeignStore],
        recorder: JournalRecorder,
        overlay: Overlay,
        gates: Gates,
        on_error: Callable[[str, str], None],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.instance = instance
        self.catalog = catalog
        self.stores = stores
        self.recorder = recorder
        self.overlay = overlay
        self.gates = gates
        self.on_error = on_error
        self.entropy = entropy
        self.shared = Shared()

    @property
    def largest_value(self) -> int:
        return self.catalog.largest_value

    def open(self, name: str) -> InstanceBucket:
        bucket = name or UNNAMED
        _raise(self.recorder.record("keyvalue.open", (name,), lambda: _refusal(lambda: self.catalog.find(bucket))))
        return self.reopen(bucket)

    def reopen(self, name: str) -> InstanceBucket:
        """A bucket that was open when a snapshot was taken; nothing is recorded."""
        try:
            policy = self.catalog.find(name)
        except NoSuchBucket:
            # Replay of a time when the manifest allowed it. Its reads are in the journal; a live use is refused.
            policy = BucketPolicy(name, self.catalog.home, read_only=True)
        return self.bucket(policy)

    def bucket(self, policy: BucketPolicy) -> InstanceBucket:
        return InstanceBucket(self, policy)

    def cache(self) -> InstanceCache:
        # Which bucket it is, is recorded too: the manifest may call another one the cache later.
        present = self.catalog.cache.bucket
        found = self.recorder.record("cache.open", (), lambda: [present, _refusal(lambda: self.catalog.find(present))])
        assert isinstance(found, list)
        name, refusal = found
        _raise(refusal)
        return self.reopen_cache(str(name))

    def reopen_cache(self, name: str) -> InstanceCache:
        """As `reopen`."""
        return InstanceCache(self, self.reopen(name))


class InstanceBucket:
    """One open bucket. See `perdure.keyvalue.bucket.Bucket`."""

    def __init__(self, host: InstanceBuckets, policy: BucketPolicy) -> None:
        self.policy = policy
        self._host = host
        self._place = place_of(policy, host.instance)

    @property
    def name(self) -> str:
        return self.policy.name

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        async def read() -> Plain:
            refused = _refusal(lambda: self._check_keys(keys))
            if refused is not None:
                return {"refused": refused}
            written = self._host.overlay.written(self._place)
            missing = [key for key in dict.fromkeys(keys) if key not in written]
            values = dict(zip(missing, await self._read(missing), strict=True)) if missing else {}
            return [_OWN_WRITE if key in written else values[key] for key in keys]

        found = await self._host.recorder.record_async("keyvalue.get", (self.name, list(keys)), read)
        if isinstance(found, dict):
            _raise(found["refused"])
        assert isinstance(found, list)
        written = self._host.overlay.written(self._place)
        values = [
            written.get(key) if value is _OWN_WRITE else cast("bytes | None", value)
            for key, value in zip(keys, found, strict=True)
        ]
        await self._host.gates.after_read()
        return values

    async def exists(self, key: str) -> bool:
        async def look() -> Plain:
            refused = _refusal(lambda: self._check_key(key))
            if refused is not None:
                return {"refused": refused}
            written = self._host.overlay.written(self._place)
            if key in written:
                return written[key] is not None
            return (await self._read([key]))[0] is not None

        found = await self._host.recorder.record_async("keyvalue.exists", (self.name, key), look)
        if isinstance(found, dict):
            _raise(found["refused"])
        return bool(found)

    def set_many(self, items: Sequence[tuple[str, bytes]], ttl_ms: int | None = None) -> Awaitable[None] | None:
        bound = self.policy.max_keys if items and not self._host.recorder.replaying else None
        if bound is not None and self.policy.scope is not Scope.INSTANCE:
            return self._fill(items, ttl_ms, bound)

        def write() -> Awaitable[None] | None:
            if bound is not None:
                return self._put_where_room(items, ttl_ms, bound)
            self.put_many(items, ttl_ms)
            return self._host.gates.after_write()

        size = sum(len(value) for _, value in items)
        return self._host.gates.before_write(size, write, crowded=self._crowded(items))

    def put_many(self, items: Sequence[tuple[str, bytes]], ttl_ms: int | None) -> None:
        """As `set_many`, without a gate, and whatever `max_keys` says."""
        what = _what(items, ttl_ms)
        self._put(items, ttl_ms, self._recorded(_SET, what, items))

    def _put(self, items: Sequence[tuple[str, bytes]], ttl_ms: int | None, recorded: Plain) -> None:
        """Buffer what was not refused. On replay a gate may have set it, as another manifest said then: the buffer is
        empty when the call goes on."""
        _raise(recorded)
        lives = self._lives(ttl_ms)
        for key, value in items:
            self._host.overlay.put(self._place, key, value, lives)

    async def _put_where_room(self, items: Sequence[tuple[str, bytes]], ttl_ms: int | None, bound: int) -> None:
        """Nobody but this instance adds keys by an invocation, so what is there and what is buffered can be counted."""

        async def check() -> Plain:
            refused = _refusal(lambda: self._check_writes(items))
            if refused is None and not await self._has_room([key for key, _ in items], bound):
                refused = ["full", _FULL]
            return refused

        args = self.name, _what(items, ttl_ms)
        self._put(items, ttl_ms, await self._host.recorder.record_async(_SET, args, check))
        gate = self._host.gates.after_write()
        if gate is not None:
            await gate

    async def _has_room(self, keys: Sequence[str], bound: int) -> bool:
        store, address = self._store(), self.policy.address(self._host.instance)
        return await room_for(keys, bound, self._host.overlay, self._place, lambda: store.count(address), self._read)

    async def _fill(self, items: Sequence[tuple[str, bytes]], ttl_ms: int | None, bound: int) -> None:
        """Others add keys as well: the store alone can tell, so this is a gate."""
        distinct = tuple(dict(items).items())
        effect = Fill(self.policy.address(self._host.instance), distinct, bound, self._lives(ttl_ms))

        def check() -> None:
            self._check_writes(items)
            if self._host.gates.running is None:
                raise LimitExceeded(f"bucket {self.name!r} has maxKeys: it cannot be written before the first call")

        await self._atomic(_SET, (self.name, _what(items, ttl_ms)), effect, check)

    def _lives(self, ttl_ms: int | None) -> int | None:
        return min((limit for limit in (ttl_ms, self.policy.ttl_ms) if limit is not None), default=None)

    async def peek(self, key: str) -> bytes | None:
        """A value as it is now. Live only: nothing is recorded."""
        written = self._host.overlay.written(self._place)
        return written[key] if key in written else (await self._read([key]))[0]

    def delete_many(self, keys: Sequence[str]) -> Awaitable[None] | None:
        def write() -> Awaitable[None] | None:
            self._recorded("keyvalue.delete", list(keys), [(key, b"") for key in keys])
            for key in keys:
                self._host.overlay.put(self._place, key, None, None)
            return self._host.gates.after_write()

        return self._host.gates.before_write(0, write, crowded=self._crowded([(key, b"") for key in keys]))

    async def increment(self, key: str, delta: int) -> int:
        address = self.policy.address(self._host.instance)
        found = await self._atomic(
            "keyvalue.increment",
            (self.name, key, delta),
            Increment(address, key, delta, self.policy.ttl_ms, self.policy.max_keys),
            lambda: self._check_writes([(key, b"")]),
        )
        assert isinstance(found, int)
        return found

    async def swap(self, key: str, expected: bytes | None, value: bytes) -> bool:
        address = self.policy.address(self._host.instance)
        return bool(
            await self._atomic(
                "keyvalue.swap",
                (self.name, key, expected, value),
                Swap(address, key, expected, value, self.policy.ttl_ms, self.policy.max_keys),
                lambda: self._check_writes([(key, value)]),
            )
        )

    async def compare_and_swap(self, key: str, old: int, new: int) -> bool:
        address = self.policy.address(self._host.instance)
        expected, value = b"%d" % old, b"%d" % new

        def check() -> None:
            self._check_writes([(key, value)])
            if max(old, new) > COUNTER_MAX:
                raise BucketError(_REASONS["overflow"])

        # It sets what is there already, so that it needs no room.
        effect = Swap(address, key, expected, value, self.policy.ttl_ms)
        return bool(await self._atomic(_COMPARE, (self.name, key, old, new), effect, check))

    async def _atomic(self, call: str, args: tuple[Plain, ...], effect: Bounded, check: Callable[[], None]) -> Plain:
        """Carried out by the store within a gate of its own, its outcome recorded."""
        gate = Gate(call, fingerprint_of(call, args), self.policy.provider)

        async def run() -> Plain:
            refused = _refusal(check)
            if refused is not None:
                return {"refused": refused}
            if isinstance(effect, Fill):
                crowded = self._crowded(effect.items)
            else:
                # Its outcome, which may be a value, is kept at the provider as well.
                crowded = self._crowded([(effect.key, b"")], self.policy.limits.value_bytes or 0)
            outcome = await self._host.gates.atomic(effect, gate, crowded=crowded)
            return plain_outcome(call, outcome)

        found = await self._host.recorder.record_async(call, args, run)
        _raise(found)
        return found

    def _recorded(self, call: str, what: list[Plain], items: Sequence[tuple[str, bytes]]) -> Plain:
        found = self._host.recorder.record(call, (self.name, what), lambda: _refusal(lambda: self._check_writes(items)))
        _raise(found)
        return found

    async def keys(self, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        async def page() -> Plain:
            found = await self._guarded_keys(cursor, limit)
            return [list(found[0]), found[1]]

        result = await self._host.recorder.record_async("keyvalue.keys", (self.name, cursor, limit), page)
        assert isinstance(result, list)
        await self._host.gates.after_read()
        names, following = result
        return cast("list[str]", names), cast("str | None", following)

    async def _guarded_keys(self, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """The store's page with this invocation's own writes worked in."""
        page = await self._store().keys(self.policy.address(self._host.instance), cursor, limit)
        written = self._host.overlay.written(self._place)
        if not written:
            return page.keys, page.cursor
        low, high = cursor, page.cursor
        inside = {
            key: value is not None
            for key, value in written.items()
            if (low is None or key > low) and (high is None or key <= high)
        }
        merged = sorted(
            {key for key in page.keys if inside.get(key, True)} | {k for k, there in inside.items() if there}
        )
        if len(merged) > limit:
            return merged[:limit], merged[limit - 1]
        return merged, page.cursor

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        try:
            return await self._store().get_many(self.policy.address(self._host.instance), keys)
        except ProviderUnavailable as error:
            self._host.on_error(self.policy.provider, error.code)
            raise

    def _store(self) -> ForeignStore:
        store = self._host.stores.get(self.policy.provider)
        if store is None:
            raise ProviderUnavailable(f"the provider {self.policy.provider!r} is not connected")
        return store

    def _check_keys(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._check_key(key)

    def _check_key(self, key: str) -> None:
        self.policy.check_key(key)

    def _check_writes(self, items: Sequence[tuple[str, bytes]]) -> None:
        if self.policy.read_only:
            raise AccessDenied(f"bucket {self.name!r} is ReadOnly for this Worker")
        for key, value in items:
            self.policy.check_write(key, value)
        self._host.overlay.require_room(sum(len(key) + len(value) for key, value in items))
        limits = self.policy.limits
        if limits.together and limits.exceeded(*_load(items)):
            effects = "any number of" if limits.effects is None else f"{limits.effects:,}"
            size = "" if limits.bytes is None else f" of {limits.bytes:,} bytes together"
            raise LimitExceeded(
                f"{len(items):,} writes at once; provider {self.policy.provider!r} of bucket {self.name!r} applies "
                f"{effects} keys{size} in one transaction"
            )
        if self._host.gates.running is None and self._crowded(items):
            raise LimitExceeded(f"provider {self.policy.provider!r} cannot take so many writes before the first call")

    def _crowded(self, items: Sequence[tuple[str, bytes]], also: int = 0) -> bool:
        """Whether these writes with `also` bytes more, and those that wait for the same provider, are more than it
        applies together."""
        limits = self.policy.limits
        if not limits.together:
            return False
        effects, size = self._host.overlay.load(self.policy.provider)
        more, bytes_ = _load(items)
        return effects > 0 and limits.exceeded(effects + more, size + bytes_ + also)


def _load(items: Sequence[tuple[str, bytes]]) -> tuple[int, int]:
    """The number of keys, and the bytes of keys and values."""
    size = sum(len(key.encode("utf-8", "surrogatepass")) + len(value) for key, value in items)
    return len({key for key, _ in items}), size


def _refusal(check: Callable[[], object]) -> Plain:
    """None, or [kind, text] of the BucketError that `check` raises."""
    try:
        check()
    except BucketError as error:
        kind = next(name for name, known in _KINDS.items() if isinstance(error, known))
        return [kind, str(error)]
    return None


def plain_outcome(call: str, outcome: Outcome) -> Plain:
    """An atomic effect's outcome as an event of `call` keeps it."""
    match outcome:
        case Counted(value):
            return value
        case Swapped():
            return True
        case Conflict(bytes() as current) if call == _COMPARE and isinstance(counted(current, 0), Refused):
            # The swap compares bytes: what is there is not another number, but none.
            return {"refused": ["other", _REASONS["not-a-counter"]]}
        case Conflict():
            return False
        case Refused(reason):
            return {"refused": ["full" if reason == "full" else "other", _REASONS.get(reason, reason)]}


def _what(items: Sequence[tuple[str, bytes]], ttl_ms: int | None) -> list[Plain]:
    """What is set, for a fingerprint."""
    what: list[Plain] = [[key, hashlib.blake2b(value, digest_size=8).digest()] for key, value in items]
    return what if ttl_ms is None else [*what, ttl_ms]


def _raise(found: Plain) -> None:
    """What was refused, as a list or in a dict."""
    refusal = found.get("refused") if isinstance(found, dict) else found
    if isinstance(refusal, list):
        kind, text = refusal
        raise _KINDS[str(kind)](str(text))
