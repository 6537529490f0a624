"""A Store in this process' memory. Everything happens between two awaits, so every method is atomic."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from perdure.durable.effects import BucketAddress, Effect, Put, Scope
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
from perdure.errors import Fenced, InternalError


@dataclass(slots=True)
class _Instance:
    token: OwnerToken
    host: str
    life: str
    sequence: int = 0
    journal: list[bytes] = field(default_factory=list)
    unapplied: list[int] = field(default_factory=list)
    results: dict[str, tuple[StoredResult, float]] = field(default_factory=dict)


@dataclass(slots=True)
class _Value:
    data: bytes
    expires: float | None

    def live(self, now: float) -> bool:
        return self.expires is None or self.expires > now


_BucketKey = tuple[str, str, str, str]


@dataclass(slots=True)
class MemoryWorld:
    """What several Stores of one process share: the stand-in for a server. `now` in seconds."""

    now: Callable[[], float] = time.time
    instances: dict[WorkerId, dict[str, _Instance]] = field(default_factory=dict)
    buckets: dict[_BucketKey, dict[str, _Value]] = field(default_factory=dict)
    foreign: dict[tuple[WorkerId, str], int] = field(default_factory=dict)
    hosts: dict[WorkerId, dict[str, tuple[HostRecord, float]]] = field(default_factory=dict)


class MemoryStore:
    """Implements `perdure.durable.store.Store`."""

    def __init__(self, world: MemoryWorld, worker: WorkerId) -> None:
        self._world = world
        self._worker = worker
        self._instances = world.instances.setdefault(worker, {})
        self._hosts = world.hosts.setdefault(worker, {})

    async def ping(self) -> ProviderInfo:
        return ProviderInfo("memory", "1", "D0", ("values live as long as this process",))

    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        held = self._instances.get(instance)
        previous = held.host if held else None
        if held is None:
            held = self._instances[instance] = _Instance(OwnerToken(1, nonce), host, nonce)
        elif held.token.nonce != nonce:
            held.token, held.host = OwnerToken(held.token.epoch + 1, nonce), host
        return Claim(held.token, held.life, held.sequence, list(held.journal), list(held.unapplied), previous)

    async def verify(self, instance: str, token: OwnerToken) -> None:
        self._owned(instance, token)

    async def commit(self, commit: Commit) -> CommitOutcome:
        held = self._owned(commit.instance, commit.token)
        if commit.sequence == held.sequence:
            return CommitOutcome.DUPLICATE
        if commit.sequence != held.sequence + 1:
            raise InternalError(f"commit {commit.sequence} does not follow {held.sequence}")
        for effect in commit.effects:
            self._apply(effect)
        held.sequence = commit.sequence
        held.journal.append(commit.entry)
        if commit.foreign:
            held.unapplied.append(commit.sequence)
        if commit.result is not None:
            now = self._world.now()
            held.results.pop(commit.result.key, None)
            held.results[commit.result.key] = (commit.result, now + commit.result_retention_ms / 1000)
            # The oldest first; one that outlives a younger one's retention is only kept longer than it need be.
            while held.results:
                oldest = next(iter(held.results))
                if held.results[oldest][1] > now and len(held.results) <= commit.max_results:
                    break
                del held.results[oldest]
        return CommitOutcome.APPLIED

    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        held = self._owned(instance, token)
        if sequence in held.unapplied:
            held.unapplied.remove(sequence)

    async def result(self, instance: str, key: str) -> StoredResult | None:
        held = self._instances.get(instance)
        found = held.results.get(key) if held else None
        return found[0] if found is not None and found[1] > self._world.now() else None

    async def apply_foreign(self, apply: ForeignApply) -> CommitOutcome:
        mark = (self._worker, apply.origin)
        if apply.sequence <= self._world.foreign.get(mark, 0):
            return CommitOutcome.DUPLICATE
        for effect in apply.effects:
            self._apply(effect)
        self._world.foreign[mark] = apply.sequence
        return CommitOutcome.APPLIED

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        now = self._world.now()
        entries = self._world.buckets.get(self._key(bucket), {})
        found = [entries.get(key) for key in keys]
        return [None if one is None or not one.live(now) else one.data for one in found]

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        names = sorted(key for key in self._live(bucket) if cursor is None or key > cursor)
        return KeyPage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def count(self, bucket: BucketAddress) -> int:
        return len(self._live(bucket))

    async def instances(self, cursor: str | None, limit: int) -> InstancePage:
        names = sorted(
            name for name, held in self._instances.items() if held.sequence and (cursor is None or name > cursor)
        )
        return InstancePage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def instance(self, instance: str) -> InstanceInfo | None:
        held = self._instances.get(instance)
        if held is None or held.sequence == 0:
            return None
        size = sum(map(len, held.journal))
        return InstanceInfo(instance, held.sequence, held.token, held.host, len(held.journal), size)

    async def delete_instance(self, instance: str) -> bool:
        held = self._instances.pop(instance, None)
        for key in [key for key in self._world.buckets if key[:2] == self._owner() and key[3] == f"i{instance}"]:
            del self._world.buckets[key]
        return held is not None and held.sequence > 0

    async def announce(self, record: HostRecord, ttl_ms: int) -> list[HostRecord]:
        now = self._world.now()
        self._hosts[record.host] = (record, now + ttl_ms / 1000)
        for host in [host for host, (_, until) in self._hosts.items() if until <= now]:
            del self._hosts[host]
        return [found for found, _ in self._hosts.values()]

    async def leave(self, host: str) -> None:
        self._hosts.pop(host, None)

    async def purge(self, progress: Callable[[int], None]) -> int:
        removed = len(self._instances)
        self._instances.clear()
        self._hosts.clear()
        for key in [key for key in self._world.buckets if key[:2] == self._owner()]:
            removed += len(self._world.buckets.pop(key))
        for mark in [mark for mark in self._world.foreign if mark[0] == self._worker]:
            del self._world.foreign[mark]
        progress(removed)
        return removed

    async def close(self) -> None:
        return None

    def _owned(self, instance: str, token: OwnerToken) -> _Instance:
        held = self._instances.get(instance)
        if held is None or held.token != token:
            raise Fenced(f"instance {instance!r} is owned by another host now")
        return held

    def _owner(self) -> tuple[str, str]:
        return (self._worker.namespace, self._worker.name)

    def _key(self, bucket: BucketAddress) -> _BucketKey:
        worker = "" if bucket.scope is Scope.NAMESPACE else self._worker.name
        private = "" if bucket.instance is None else f"i{bucket.instance}"
        return (self._worker.namespace, worker, bucket.name, private)

    def _live(self, bucket: BucketAddress) -> dict[str, _Value]:
        now = self._world.now()
        entries = self._world.buckets.get(self._key(bucket), {})
        return {key: value for key, value in entries.items() if value.live(now)}

    def _apply(self, effect: Effect) -> None:
        entries = self._world.buckets.setdefault(self._key(effect.bucket), {})
        if isinstance(effect, Put):
            expires = None if effect.ttl_ms is None else self._world.now() + effect.ttl_ms / 1000
            entries[effect.key] = _Value(effect.value, expires)
        else:
            entries.pop(effect.key, None)
