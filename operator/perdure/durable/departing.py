"""Deleting an instance, with what it has at other providers than its home.

The home store deletes it in one transaction, which leaves a *note* where another provider is concerned: the life, its
private buckets there, and effects that were not confirmed. Whoever finds a note clears it: applies those effects,
empties the buckets, takes the note away. A new life of the name does nothing before that.

The clearing goes on with the sequences of the life that has ended, from `FENCED_AT` on: so nothing that the life sent
before and that arrives late changes anything, and once `SEALED_AT` was applied no clearing that is late does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import msgspec

from perdure.durable.claiming import claim_instance
from perdure.durable.effects import BucketAddress, Put, Remove, Scope, Swap
from perdure.durable.environment import EngineEnvironment
from perdure.durable.foreign import apply_packed, apply_unrecorded, origin_of
from perdure.durable.journal import ForeignWrite, decode_entry
from perdure.durable.policy import DEPARTED, BucketLimits
from perdure.durable.records import Claim, CommitStatus, ForeignApply, Parting
from perdure.durable.store import BucketStore, ForeignStore
from perdure.errors import Fenced, ProviderUnavailable, Quarantined

NOTES = BucketAddress(Scope.WORKER, DEPARTED)
FENCED_AT, SEALED_AT = 1 << 52, (1 << 53) - 1
"""Sequences beyond those of any instance that every provider can compare."""
_ATTEMPTS = 5
_PAGE = 100
_GONE, _GONE_MS = b"", 1000


class Remains(msgspec.Struct, frozen=True, array_like=True):
    """A note. `buckets`: names by provider. `unapplied`: sequences and what their entries carry."""

    life: str
    buckets: dict[str, list[str]]
    unapplied: list[tuple[int, dict[str, list[ForeignWrite]]]]


_decoder = msgspec.msgpack.Decoder(Remains)


async def delete_instance(name: str, environment: EngineEnvironment) -> bool:
    """False: there was none. Else it is gone from the home store, and what is left elsewhere is noted there.

    Raises `ProviderUnavailable` (send it again), `Fenced` (others claim the instance faster than it can be deleted).
    """
    home = environment.home
    if len(environment.catalog.providers()) == 1:
        return await home.delete_instance(name)
    if await home.instance(name) is None:
        return False
    for _ in range(_ATTEMPTS):
        claim = await claim_instance(name, environment)
        note = (
            _note(name, claim, environment)
            if claim.data.sequence or claim.data.journal or claim.data.snapshot
            else None
        )
        try:
            await home.delete_instance(name, Parting(claim.token, note))
        except Fenced:
            continue
        return True
    raise Fenced(f"instance {name!r} is claimed by others faster than it can be deleted")


async def departed(store: BucketStore, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
    """Instances that have left something elsewhere, and where to go on. Raises `ProviderUnavailable`."""
    page = await store.keys(NOTES, cursor, limit)
    found = await store.get_many(NOTES, page.keys)
    return [name for name, note in zip(page.keys, found, strict=True) if note], page.cursor


async def clear(name: str, environment: EngineEnvironment) -> None:
    """Carry out what a deletion has left to do, if there is anything. Raises `ProviderUnavailable`: it goes on another
    time."""
    (note,) = await environment.home.get_many(NOTES, [name])
    if not note:
        return
    remains = _decoder.decode(note)
    origin = origin_of(environment.worker, name, remains.life)
    for sequence, effects in remains.unapplied:
        for provider, packed in effects.items():
            store = _store(name, provider, environment)
            if store is not None:
                await apply_packed(store, origin, sequence, packed, name)
    for provider, buckets in remains.buckets.items():
        store = _store(name, provider, environment)
        if store is not None:
            await _empty(store, [BucketAddress(Scope.INSTANCE, bucket, name) for bucket in buckets], origin)
    # Only this very note: a later life of the name may have left its own by now.
    await apply_unrecorded(environment.home, Swap(NOTES, name, note, _GONE, _GONE_MS))


async def clear_before(name: str, claim: Claim, environment: EngineEnvironment) -> None:
    """Before a life does anything: nothing of the one before it must be there. Raises `ProviderUnavailable`."""
    if claim.data.sequence or len(environment.catalog.providers()) == 1:
        return
    try:
        async with asyncio.timeout(environment.recovery):
            await clear(name, environment)
    except TimeoutError as error:
        raise ProviderUnavailable(f"what the former instance {name!r} had is being deleted still") from error


def _note(name: str, claim: Claim, environment: EngineEnvironment) -> Put | None:
    buckets = {
        provider: [address.name for address in found]
        for provider, found in environment.catalog.private_elsewhere(name).items()
    }
    unapplied = []
    for sequence in sorted(claim.data.unapplied):
        at = sequence - claim.data.first
        try:
            if not 0 <= at < len(claim.data.journal):
                raise Quarantined(f"entry {sequence} is missing")
            entry = decode_entry(claim.data.journal[at].entry, sequence, claim.data.blobs)
        except Quarantined as error:
            environment.log(name, "perdure", f"deleted with effects of a damaged journal: {error.detail}".encode())
        else:
            unapplied.append((sequence, entry.foreign))
    if not buckets and not unapplied:
        return None
    return Put(NOTES, name, msgspec.msgpack.encode(Remains(claim.data.life, buckets, unapplied)))


def _store(name: str, provider: str, environment: EngineEnvironment) -> ForeignStore | None:
    found = environment.stores.get(provider)
    if found is None:
        words = f"what it had at provider {provider!r} stays: the manifest does not name that any more"
        environment.log(name, "perdure", words.encode())
    return found


async def _empty(store: ForeignStore, buckets: Sequence[BucketAddress], origin: str) -> None:
    """Of the keys that the life's effects have left."""
    await store.apply_foreign(ForeignApply(origin, FENCED_AT, []))
    sequence, stride = FENCED_AT + 1, 1
    for bucket in buckets:
        while keys := (await store.keys(bucket, None, _PAGE)).keys:
            for some in _together(keys, store.limits):
                if sequence >= SEALED_AT:
                    # Another has ended it: what is there now is not the life's.
                    return
                done = await store.apply_foreign(ForeignApply(origin, sequence, [Remove(bucket, key) for key in some]))
                # Others are further, or this one was some time ago: catch up quickly.
                stride = stride * 2 if done.status is CommitStatus.DUPLICATE else 1
                sequence += stride
    await store.apply_foreign(ForeignApply(origin, SEALED_AT, []))


def _together(keys: Sequence[str], limits: BucketLimits) -> Iterator[list[str]]:
    """As many at a time as the provider takes in one transaction."""
    some: list[str] = []
    size = 0
    for key in keys:
        more = len(key.encode())
        if some and limits.exceeded(len(some) + 1, size + more):
            yield some
            some, size = [], 0
        some.append(key)
        size += more
    yield some
