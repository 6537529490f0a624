"""Effects on buckets of other stores: exactly once, without a transaction across stores.

The home commit carries the foreign effects in its journal entry and marks the sequence unapplied (an outbox). Then
each foreign store applies them under (origin, sequence), keeping the highest sequence beside the data in the same
transaction; then the mark is taken away; only then the caller is answered. A host that dies in between leaves the
mark, and whoever claims the instance next applies again: a sequence at or below the record changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perdure.durable.effects import BucketAddress, Effect, Fill, Increment, Outcome, Put, Remove, Scope, Swap
from perdure.durable.journal import Entry, ForeignWrite
from perdure.durable.records import ForeignApply, WorkerId
from perdure.durable.store import BucketStore, ForeignStore
from perdure.errors import ProviderUnavailable


def to_entry(effects: Mapping[str, Sequence[Effect]]) -> dict[str, list[ForeignWrite]]:
    """Effects by provider as an entry carries them."""
    return {provider: [_packed(effect) for effect in found] for provider, found in effects.items()}


def origin_of(worker: WorkerId, instance: str, life: str) -> str:
    """Names one life of one instance at any store. A new life counts its sequences from 1 again (the instance was
    deleted, or the Worker has another home now), so the marks of a former one must not swallow its effects."""
    return f"{life}@{len(worker.namespace)}:{worker.namespace}/{len(worker.name)}:{worker.name}/{instance}"


async def apply_entry(
    entry: Entry, origin: str, instance: str, stores: Mapping[str, ForeignStore]
) -> dict[str, list[Outcome]]:
    """Apply an entry's foreign effects; the outcomes of atomic ones by provider. Raises `ProviderUnavailable`."""
    outcomes: dict[str, list[Outcome]] = {}
    for provider, packed in entry.foreign.items():
        store = stores.get(provider)
        if store is None:
            raise ProviderUnavailable(
                f"instance {instance!r} has effects to apply at provider {provider!r}, which the manifest "
                "does not name any more"
            )
        outcomes[provider] = await apply_packed(store, origin, entry.sequence, packed, instance)
    return outcomes


async def apply_packed(
    store: ForeignStore, origin: str, sequence: int, packed: Sequence[ForeignWrite], instance: str
) -> list[Outcome]:
    """Apply what an entry carries for one store."""
    effects = [_unpacked(effect) for effect in packed]
    return (await store.apply_foreign(ForeignApply(origin, sequence, effects, instance))).outcomes


async def apply_unrecorded(store: BucketStore, *effects: Effect) -> list[Outcome]:
    """Effects of no instance, in one transaction; the outcomes of the atomic ones. Sent again, they are applied again.
    Raises `ProviderUnavailable`, `FeedFull`."""
    return (await store.apply_foreign(ForeignApply("", 0, effects))).outcomes


def _packed(effect: Effect) -> ForeignWrite:
    bucket = effect.bucket
    if isinstance(effect, Fill):
        place = (bucket.scope.value, bucket.name, bucket.instance, "")
        return ForeignWrite(*place, None, effect.ttl_ms, items=list(effect.items), max_keys=effect.max_keys)
    place = (bucket.scope.value, bucket.name, bucket.instance, effect.key)
    match effect:
        case Put():
            return ForeignWrite(*place, effect.value, effect.ttl_ms)
        case Remove():
            return ForeignWrite(*place, None, None)
        case Increment():
            return ForeignWrite(*place, None, effect.ttl_ms, delta=effect.delta, max_keys=effect.max_keys)
        case Swap():
            return ForeignWrite(
                *place,
                effect.value,
                effect.ttl_ms,
                swaps=True,
                expected=effect.expected,
                max_keys=effect.max_keys,
            )


def _unpacked(packed: ForeignWrite) -> Effect:
    address = BucketAddress(Scope(packed.scope), packed.bucket, packed.instance)
    if packed.items is not None:
        return Fill(address, tuple(packed.items), packed.max_keys or 0, packed.ttl_ms)
    if packed.delta is not None:
        return Increment(address, packed.key, packed.delta, packed.ttl_ms, packed.max_keys)
    if packed.value is None:
        return Remove(address, packed.key)
    if packed.swaps:
        return Swap(address, packed.key, packed.expected, packed.value, packed.ttl_ms, packed.max_keys)
    return Put(address, packed.key, packed.value, packed.ttl_ms)
