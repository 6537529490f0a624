"""The memory store's writer's side: claims, commits and snapshots."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace

from perdure.durable.effects import decode_outcomes, encode_outcomes
from perdure.durable.records import (
    Claim,
    Commit,
    CommitStatus,
    Committed,
    InstanceData,
    JournalRecord,
    OwnerToken,
    SnapshotChain,
    SnapshotWrite,
    StoredResult,
)
from perdure.errors import InternalError, LostWrites
from perdure.providers.memory.buckets import Buckets
from perdure.providers.memory.world import Blob, Instance


class Commits(Buckets):
    """Implements `OwnedStore`, but for `take` and `postpone`."""

    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        self._data.identity = self._data.identity or secrets.token_hex(8)
        held = self._data.instances.setdefault(instance, Instance())
        previous = held.host or None
        if held.token.nonce != nonce or held.token.epoch == 0:
            held.token, held.host = OwnerToken(held.token.epoch + 1, nonce), host
            held.life = held.life or nonce
            held.base = held.sequence
        return Claim(held.token, data_of(held), previous, self._data.identity)

    async def verify(self, instance: str, token: OwnerToken) -> None:
        self._owned(instance, token)

    async def commit(self, commit: Commit) -> Committed:
        held = self._owned(commit.instance, commit.token)
        duplicate = self._follows(held, commit)
        if duplicate is not None:
            return duplicate
        refused = self._refused(held, commit)
        if refused is not None:
            return Committed(refused)
        writer = (self._worker.name, commit.instance)
        self._open_feeds(commit.effects, writer)
        if commit.fresh:
            held.snapshot = None
            self._trim(held, commit.sequence - 1)
            held.unapplied.clear()
        outcomes = self._apply_all(commit.effects, writer)
        held.journal.append(JournalRecord(commit.entry, encode_outcomes(outcomes)))
        held.sequence = commit.sequence
        held.open = commit.open
        held.component = commit.component or held.component
        self._name_blobs(held, commit.blobs)
        if commit.foreign:
            held.unapplied.add(commit.sequence)
        if commit.open:
            _begin(held, commit.pending)
            _begin(held, commit.reserves)
        if commit.result is not None:
            held.inbox.pop(commit.result.key, None)
            self._keep_result(held, commit.result, commit)
        return Committed(CommitStatus.APPLIED, outcomes)

    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        self._owned(instance, token).unapplied.discard(sequence)

    async def snapshot(self, write: SnapshotWrite) -> bool:
        held = self._owned(write.instance, write.token)
        present = held.snapshot
        if present is not None and _resent(present, write):
            return True
        if write.sequence > held.sequence or any(sequence <= write.sequence for sequence in held.unapplied):
            return False
        if write.follows is None:
            if present is not None and write.sequence < present.sequence:
                return False
            held.snapshot = SnapshotChain(write.sequence, [write.data])
        else:
            if present is None or present.sequence != write.follows or write.sequence <= write.follows:
                return False
            held.snapshot = SnapshotChain(write.sequence, [*present.parts, write.data])
        self._trim(held, write.sequence)
        return True

    async def halt(self, instance: str, token: OwnerToken, reason: bytes | None) -> None:
        self._owned(instance, token).halt = reason

    def _follows(self, held: Instance, commit: Commit) -> Committed | None:
        """None: it is the next one. Otherwise what a resent one was answered, or an error."""
        if held.base < commit.sequence <= held.sequence:
            at = commit.sequence - held.sequence - 1
            # Nobody who has kept a snapshot of it asks for the outcomes.
            outcomes = held.journal[at].outcomes if len(held.journal) >= -at else b""
            return Committed(CommitStatus.DUPLICATE, decode_outcomes(outcomes))
        if held.sequence < commit.sequence - 1:
            raise LostWrites(f"instance {commit.instance!r} has lost the commits after {held.sequence}")
        if held.sequence > commit.sequence - 1:
            raise InternalError(f"commit {commit.sequence} of {commit.instance!r} does not follow {held.sequence}")
        return None

    def _refused(self, held: Instance, commit: Commit) -> CommitStatus | None:
        result = commit.result
        if result is not None and self._finished(held, result.key):
            return CommitStatus.KEY_USED
        if result is not None and commit.pending is None:
            waiting = held.inbox.get(result.key)
            # Another call of this key must not be taken out of the inbox.
            if waiting is not None and waiting.call.fingerprint != result.fingerprint:
                return CommitStatus.KEY_USED
        if commit.reserves is not None and self._finished(held, commit.reserves):
            return CommitStatus.KEY_USED
        if commit.pending is not None:
            waiting = held.inbox.get(commit.pending)
            # Under the same key there may be another call by now.
            if waiting is None or (result is not None and waiting.call.fingerprint != result.fingerprint):
                return CommitStatus.CANCELLED
        return None

    def _trim(self, held: Instance, sequence: int) -> None:
        """Drop the records up to `sequence` with the blobs that only they named."""
        first = held.sequence - len(held.journal) + 1
        del held.journal[: max(0, sequence - first + 1)]
        held.blobs = {digest: blob for digest, blob in held.blobs.items() if blob.last > sequence}

    def _name_blobs(self, held: Instance, blobs: Mapping[bytes, bytes]) -> None:
        for digest, data in blobs.items():
            held.blobs.setdefault(digest, Blob(data, 0)).last = held.sequence

    def _keep_result(self, held: Instance, result: StoredResult, commit: Commit) -> None:
        now = self._world.now()
        held.results.pop(result.key, None)
        held.results[result.key] = (result, now + commit.result_retention_ms / 1000)
        # The oldest first; one that outlives a younger one's retention is only kept longer than it need be.
        while held.results:
            oldest = next(iter(held.results))
            if held.results[oldest][1] > now and len(held.results) <= commit.max_results:
                break
            del held.results[oldest]


def data_of(held: Instance) -> InstanceData:
    """A copy for a claimer."""
    chain = held.snapshot
    return InstanceData(
        life=held.life,
        sequence=held.sequence,
        snapshot=None if chain is None else SnapshotChain(chain.sequence, list(chain.parts)),
        journal=list(held.journal),
        blobs={digest: blob.data for digest, blob in held.blobs.items()},
        unapplied=sorted(held.unapplied),
        open=held.open,
        halt=held.halt,
    )


def _resent(present: SnapshotChain, write: SnapshotWrite) -> bool:
    whole = len(present.parts) == 1
    same = present.sequence == write.sequence and present.parts[-1] == write.data
    return same and whole == (write.follows is None)


def _begin(held: Instance, key: str | None) -> None:
    waiting = held.inbox.get(key) if key is not None else None
    if waiting is not None:
        waiting.call = replace(waiting.call, begun=True)
