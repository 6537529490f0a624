"""A Store in this process' memory: the readable reference of the contract (`perdure.durable.store`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from perdure.durable.policy import BucketLimits
from perdure.durable.records import (
    HostRecord,
    InstanceData,
    InstanceInfo,
    InstancePage,
    JournalPage,
    Parting,
    ProviderInfo,
    StoredResult,
)
from perdure.providers.memory.commits import Commits, data_of
from perdure.providers.memory.inbox import Inboxes, due_of
from perdure.providers.memory.world import Instance


class MemoryStore(Commits, Inboxes):
    """Implements `perdure.durable.store.Store`."""

    @property
    def namespace_is_home(self) -> bool:
        return True

    @property
    def limits(self) -> BucketLimits:
        return BucketLimits()

    async def ping(self) -> ProviderInfo:
        return ProviderInfo("memory", "1", "D0", ("values live as long as this process",))

    async def close(self) -> None:
        return None

    async def result(self, instance: str, key: str) -> StoredResult | None:
        held = self._data.instances.get(instance)
        return held.results[key][0] if held is not None and self._finished(held, key) else None

    async def instances(self, cursor: str | None, limit: int) -> InstancePage:
        names = sorted(
            name for name, held in self._data.instances.items() if held.sequence and (cursor is None or name > cursor)
        )
        return InstancePage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def instance(self, instance: str) -> InstanceInfo | None:
        held = self._data.instances.get(instance)
        if held is None or not _known(held):
            return None
        parts = held.snapshot.parts if held.snapshot else []
        return InstanceInfo(
            name=instance,
            sequence=held.sequence,
            token=held.token,
            host=held.host,
            component=held.component,
            journal_entries=len(held.journal),
            journal_bytes=sum(len(record.entry) for record in held.journal),
            snapshot_sequence=held.snapshot.sequence if held.snapshot else 0,
            snapshot_parts=len(parts),
            snapshot_bytes=sum(map(len, parts)),
            pending=len(held.inbox),
            halt=held.halt,
            listed=due_of(held) is not None,
        )

    async def peek(self, instance: str) -> InstanceData | None:
        held = self._present(instance)
        return None if held is None else data_of(held)

    async def journal(self, instance: str, after: int, limit: int) -> JournalPage | None:
        held = self._present(instance)
        if held is None:
            return None
        trimmed = held.sequence - len(held.journal)
        start = max(after, trimmed)
        records = held.journal[start - trimmed : start - trimmed + limit]
        return JournalPage(start + 1, records, trimmed, held.sequence)

    async def blobs(self, instance: str, digests: Sequence[bytes]) -> list[bytes | None]:
        held = self._data.instances.get(instance)
        found = held.blobs if held else {}
        return [found[digest].data if digest in found else None for digest in digests]

    async def delete_instance(self, instance: str, parting: Parting | None = None) -> bool:
        if parting is not None:
            there = self._data.instances.get(instance)
            if there is None or there.token.epoch == 0:
                return False
            self._owned(instance, parting.token)
            self._apply_all(parting.effects, None)
        held = self._data.instances.pop(instance, None)
        self._drop_buckets(instance)
        return held is not None and _known(held)

    async def announce(self, record: HostRecord, ttl_ms: int) -> list[HostRecord]:
        now, hosts = self._world.now(), self._data.hosts
        hosts[record.host] = (record, now + ttl_ms / 1000)
        for host in [host for host, (_, until) in hosts.items() if until <= now]:
            del hosts[host]
        return [found for found, _ in hosts.values()]

    async def leave(self, host: str) -> None:
        self._data.hosts.pop(host, None)

    async def keep_component(self, digest: str, data: bytes, spared: Sequence[str] = ()) -> None:
        used = {*await self.components(), *spared}
        kept = {held: bytes_ for held, bytes_ in self._data.components.items() if held in used}
        self._data.components = kept | {digest: data}

    async def component(self, digest: str) -> bytes | None:
        return self._data.components.get(digest)

    async def components(self) -> dict[str, int]:
        return dict(Counter(held.component for held in self._data.instances.values() if held.component))

    async def purge(self, progress: Callable[[int], None]) -> int:
        removed = len(self._data.instances) + self._drop_buckets(None)
        self._drop_watches()
        self._world.workers.pop(self._worker, None)
        progress(removed)
        return removed

    def _present(self, instance: str) -> Instance | None:
        """An instance exists from its first commit on."""
        held = self._data.instances.get(instance)
        return held if held is not None and held.sequence else None


def _known(held: Instance) -> bool:
    """A claim alone makes no instance."""
    return bool(held.sequence or held.inbox or held.halt is not None)
