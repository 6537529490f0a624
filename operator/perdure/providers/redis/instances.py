"""The Redis store's instances: what their owners do, and what anyone may ask."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from typing import cast

from perdure.durable.records import (
    Claim,
    Commit,
    Committed,
    InstanceData,
    InstanceInfo,
    InstancePage,
    JournalPage,
    JournalRecord,
    OwnerToken,
    Parting,
    SnapshotChain,
    SnapshotWrite,
    StoredResult,
)
from perdure.errors import InternalError, ProviderUnavailable
from perdure.providers.redis.buckets import Buckets, pack_effects
from perdure.providers.redis.connection import Argument
from perdure.providers.redis.keys import INSTANCE_KEYS, bucket_of, pack_digest, unpack_digest

_Contents = tuple[bytes, bytes, bytes, bytes | None, bytes | None, list[bytes], list[bytes], list[bytes], list[bytes]]
_FINGERPRINT = 32
_READ = 1000
_DELETIONS = 10
_NO_RESULT = StoredResult("", b"", b"")


class Instances(Buckets):
    """Implements `OwnedStore`, but for `take` and `postpone`, and `InstanceStore`."""

    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        keys = [*self._keys.instance(instance), self._keys.identity]
        reply = await self._client.call("claim", keys, nonce, host, instance, secrets.token_hex(8))
        epoch, previous, identity, contents = cast("tuple[bytes, bytes | None, bytes, _Contents]", reply)
        return Claim(
            OwnerToken(int(epoch), nonce),
            _data(contents),
            previous.decode() if previous else None,
            identity.decode(),
        )

    async def verify(self, instance: str, token: OwnerToken) -> None:
        keys = self._keys.instance(instance)
        self._owned(await self._client.call("verify", keys, token.epoch, token.nonce), instance)

    async def commit(self, commit: Commit) -> Committed:
        self._require_home(commit.effects)
        effects = pack_effects(self._keys, commit.effects, INSTANCE_KEYS)
        result = commit.result or _NO_RESULT
        blobs: list[Argument] = [part for blob in commit.blobs.items() for part in blob]
        reply = await self._client.call(
            "commit",
            [*self._keys.instance(commit.instance), *effects.keys],
            commit.token.epoch,
            commit.token.nonce,
            commit.sequence,
            commit.instance,
            _flags(commit),
            commit.entry,
            pack_digest(commit.component),
            commit.reserves or "",
            commit.pending or "",
            result.key,
            result.fingerprint + result.body,
            commit.result_retention_ms,
            commit.max_results,
            len(effects.buckets),
            effects.private,
            len(commit.blobs),
            *blobs,
            *effects.args,
        )
        return self._committed(reply, commit.sequence, commit.instance, effects.buckets)

    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        keys = self._keys.instance(instance)
        reply = await self._client.call("applied", keys, token.epoch, token.nonce, sequence, instance)
        self._owned(reply, instance)

    async def snapshot(self, write: SnapshotWrite) -> bool:
        reply = await self._client.call(
            "snapshot",
            self._keys.instance(write.instance),
            write.token.epoch,
            write.token.nonce,
            write.sequence,
            "" if write.follows is None else write.follows,
            write.data,
        )
        return self._owned(reply, write.instance) == "KEPT"

    async def halt(self, instance: str, token: OwnerToken, reason: bytes | None) -> None:
        keys = self._keys.instance(instance)
        why = [] if reason is None else [reason]
        self._owned(await self._client.call("halt", keys, token.epoch, token.nonce, instance, *why), instance)

    async def result(self, instance: str, key: str) -> StoredResult | None:
        reply = await self._client.call("result", self._keys.instance(instance), key)
        if reply is None:
            return None
        packed = cast("bytes", reply)
        return StoredResult(key, packed[:_FINGERPRINT], packed[_FINGERPRINT:])

    async def instances(self, cursor: str | None, limit: int) -> InstancePage:
        start = "-" if cursor is None else f"({cursor}"
        reply = await self._client.call("names", [self._keys.names], start, limit + 1)
        names = [name.decode() for name in cast("list[bytes]", reply)]
        return InstancePage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def instance(self, instance: str) -> InstanceInfo | None:
        reply = await self._client.call("info", self._keys.instance(instance), instance)
        fields = cast("list[bytes | None]", reply)
        epoch, nonce, host, sequence, component, halt, snapshot, snapshot_bytes = fields[:8]
        records, size, parts, pending = cast("list[int]", fields[8:12])
        # One that has records without the count of them has lost it: it can still be reset, or deleted.
        if sequence is None and halt is None and not (pending or records or parts):
            return None
        return InstanceInfo(
            name=instance,
            sequence=int(sequence or 0),
            token=OwnerToken(int(epoch or 0), (nonce or b"").decode()),
            host=(host or b"").decode(),
            component=unpack_digest(component or b""),
            journal_entries=records,
            journal_bytes=size,
            snapshot_sequence=int(snapshot or 0),
            snapshot_parts=parts,
            snapshot_bytes=int(snapshot_bytes or 0),
            pending=pending,
            halt=halt,
            listed=fields[12] is not None,
        )

    async def peek(self, instance: str) -> InstanceData | None:
        reply = await self._client.call("peek", self._keys.instance(instance))
        return None if reply is None else _data(cast("_Contents", reply))

    async def journal(self, instance: str, after: int, limit: int) -> JournalPage | None:
        reply = await self._client.call("journal", self._keys.instance(instance), after, limit)
        if reply is None:
            return None
        sequence, length, records = cast("tuple[bytes, int, list[bytes]]", reply)
        trimmed = int(sequence) - length
        return JournalPage(max(after, trimmed) + 1, [_record(one) for one in records], trimmed, int(sequence))

    async def blobs(self, instance: str, digests: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for start in range(0, len(digests), _READ):
            some = digests[start : start + _READ]
            found += cast("list[bytes | None]", await self._client.call("blobs", [self._keys.blobs(instance)], *some))
        return found

    async def delete_instance(self, instance: str, parting: Parting | None = None) -> bool:
        keys = self._keys.instance(instance)
        note = pack_effects(self._keys, [] if parting is None else parting.effects, INSTANCE_KEYS)
        token: list[Argument] = [] if parting is None else [parting.token.epoch, parting.token.nonce]
        for _ in range(_DELETIONS):
            bases = cast("list[bytes]", await self._client.call("private", keys))
            buckets = [key for base in bases for key in bucket_of(base)]
            reply = await self._client.call("delete", [*keys, *buckets, *note.keys], instance, *token, *note.args)
            # An owner may have opened another bucket in between.
            word = self._owned(reply, instance)
            if word.startswith("WRONG"):
                raise InternalError(f"the store refused to delete {instance!r}: {word}")
            if word != "AGAIN":
                return word == "GONE"
        raise ProviderUnavailable(f"instance {instance!r} opens buckets faster than it can be deleted")


def _flags(commit: Commit) -> str:
    flags = "o" if commit.open else ""
    flags += "f" if commit.foreign else ""
    flags += "n" if commit.fresh else ""
    flags += "k" if commit.reserves is not None else ""
    flags += "p" if commit.pending is not None else ""
    return flags + ("r" if commit.result is not None else "")


def _data(contents: _Contents) -> InstanceData:
    life, sequence, is_open, halt, snapshot, journal, unapplied, parts, blobs = contents
    # Parts that nothing tells the sequence of are no snapshot that is usable, but not nothing either.
    reached = 0 if snapshot is None else int(snapshot)
    return InstanceData(
        life=life.decode(),
        sequence=int(sequence),
        snapshot=SnapshotChain(reached, parts) if parts or snapshot is not None else None,
        journal=[_record(one) for one in journal],
        blobs=dict(zip(blobs[::2], blobs[1::2], strict=True)),
        unapplied=sorted(int(number) for number in unapplied),
        open=is_open == b"1",
        halt=halt,
    )


def _record(stored: bytes) -> JournalRecord:
    """See `record` in `functions/4-commits.lua`."""
    if not stored.startswith(b"PR"):
        return JournalRecord(stored)
    (size,) = struct.unpack_from(">I", stored, 2)
    return JournalRecord(stored[6 + size :], stored[6 : 6 + size])
