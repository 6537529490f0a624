"""What most tests of the suite begin with: an instance with an owner, and short ways to say things."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from perdure.durable.effects import BucketAddress, Effect, Scope
from perdure.durable.inbox import NewCall
from perdure.durable.records import (
    Commit,
    CommitStatus,
    Committed,
    InstanceData,
    OwnerToken,
    SnapshotWrite,
    StoredResult,
    WorkerId,
)
from perdure.durable.store import Store

SHOP = BucketAddress(Scope.WORKER, "shop")
ODD = ["", "a:b", "{x}", "a/b}{", "ключ", "🔑", "nul\0inside", "%2F", "*?[", "line\nbreak", "x" * 500]
PRINT, OTHER_PRINT = b"f" * 32, b"g" * 32


def some_worker() -> WorkerId:
    """One that no other test has."""
    return WorkerId("ns-" + uuid.uuid4().hex[:8], "carts")


@dataclass
class Owner:
    """The present writer of an instance. `commit` gives the next sequence."""

    store: Store
    instance: str
    token: OwnerToken
    sequence: int

    async def commit(self, *effects: Effect, **fields: Any) -> Committed:
        done = await self.store.commit(self.next(*effects, **fields))
        if done.status is CommitStatus.APPLIED:
            self.sequence += 1
        return done

    def next(self, *effects: Effect, **fields: Any) -> Commit:
        """The commit that follows, not sent."""
        sequence = self.sequence + 1
        return Commit(self.instance, self.token, sequence, **{"entry": b"e%d" % sequence, "effects": effects} | fields)

    async def commits(self, count: int) -> None:
        for _ in range(count):
            await self.commit()

    async def snapshot(self, sequence: int, data: bytes = b"state", follows: int | None = None) -> bool:
        return await self.store.snapshot(SnapshotWrite(self.instance, self.token, sequence, data, follows))


async def own(store: Store, instance: str = "alice", nonce: str = "n", host: str = "h") -> Owner:
    claim = await store.claim(instance, nonce, host)
    return Owner(store, instance, claim.token, claim.data.sequence)


async def look(store: Store, instance: str = "alice") -> InstanceData:
    """What is stored of an instance that there must be."""
    data = await store.peek(instance)
    assert data is not None
    return data


def result(key: str, body: bytes = b"1", fingerprint: bytes = PRINT) -> StoredResult:
    return StoredResult(key, fingerprint, body)


def call(key: str, payload: bytes = b"call", due_ms: int | None = None, fingerprint: bytes = PRINT) -> NewCall:
    return NewCall(key, fingerprint, payload, due_ms)


def soon(milliseconds: int) -> int:
    """Wall-clock milliseconds from now."""
    return int(time.time() * 1000) + milliseconds
