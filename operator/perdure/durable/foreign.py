"""Effects on buckets of other stores: exactly once, without a transaction across stores.

The home commit carries the foreign effects in its journal entry and marks the sequence unapplied (an outbox). Then
each foreign store applies them under (origin, sequence), keeping the highest sequence beside the data in the same
transaction; then the mark is taken away; only then the caller is answered. A host that dies in between leaves the
mark, and whoever claims the instance next applies again: a sequence at or below the record changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perdure.durable.effects import BucketAddress, Effect, Put, Remove, Scope
from perdure.durable.journal import Entry, ForeignPut
from perdure.durable.records import ForeignApply, WorkerId
from perdure.durable.store import Store
from perdure.errors import ProviderUnavailable


def to_entry(effects: Mapping[str, Sequence[Effect]]) -> dict[str, list[ForeignPut]]:
    """Effects by provider as an entry carries them."""
    return {provider: [_packed(effect) for effect in found] for provider, found in effects.items()}


def origin_of(worker: WorkerId, instance: str, life: str) -> str:
    """Names one life of one instance at any store. A new life counts its sequences from 1 again (the instance was
    deleted, or the Worker has another home now), so the marks of a former one must not swallow its effects."""
    return f"{life}@{len(worker.namespace)}:{worker.namespace}/{len(worker.name)}:{worker.name}/{instance}"


async def apply_entry(entry: Entry, origin: str, instance: str, stores: Mapping[str, Store]) -> None:
    """Apply an entry's foreign effects, as often as it takes. Raises `ProviderUnavailable`."""
    for provider, packed in entry.foreign.items():
        store = stores.get(provider)
        if store is None:
            raise ProviderUnavailable(
                f"instance {instance!r} has effects to apply at provider {provider!r}, which the manifest "
                "does not name any more"
            )
        await store.apply_foreign(ForeignApply(origin, entry.sequence, [_unpacked(effect) for effect in packed]))


def _packed(effect: Effect) -> ForeignPut:
    bucket = effect.bucket
    value, ttl = (effect.value, effect.ttl_ms) if isinstance(effect, Put) else (None, None)
    return ForeignPut(bucket.scope.value, bucket.name, bucket.instance, effect.key, value, ttl)


def _unpacked(packed: ForeignPut) -> Effect:
    address = BucketAddress(Scope(packed.scope), packed.bucket, packed.instance)
    if packed.value is None:
        return Remove(address, packed.key)
    return Put(address, packed.key, packed.value, packed.ttl_ms)
