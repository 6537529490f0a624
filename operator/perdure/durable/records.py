"""What a Store keeps of a Worker's instances, and the requests that change it. Pure.

An instance's *sequence* counts its commits, without gaps, from 1. Its journal holds one record for each commit after
its snapshot; a snapshot at sequence s stands for all records up to s, which are trimmed in the same transaction.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perdure.durable.effects import Effect, Outcome, Put


@dataclass(frozen=True, slots=True)
class WorkerId:
    """The Worker whose data a Store holds; both parts may hold any character."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class OwnerToken:
    """`epoch:nonce`. Compared for equality only: after a failover with lost writes epochs may repeat, nonces do not."""

    epoch: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.epoch}:{self.nonce}"


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What an idempotency key is bound to. `fingerprint` (32 bytes) identifies function and arguments."""

    key: str
    fingerprint: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One commit's entry, and the outcomes of its atomic effects as the store encoded them (`effects`)."""

    entry: bytes
    outcomes: bytes = b""


@dataclass(frozen=True, slots=True)
class SnapshotChain:
    """A full snapshot and the deltas after it, oldest first. `sequence`: of the commit that the last one follows."""

    sequence: int
    parts: list[bytes]


@dataclass(frozen=True, slots=True)
class InstanceData:
    """Everything that is stored of one instance, but for its results, inbox and buckets.

    `life`: told from every other life of an instance of this name. Set by its first claim, it stays until the
    instance is deleted; its sequences mean nothing outside it. `sequence`: the last applied one (0: none yet).
    `journal`: the records `first` to `sequence`. `blobs`: payloads that entries refer to, by digest. `unapplied`:
    sequences whose foreign effects are not confirmed yet. `open`: the last commit is a part of an invocation that has
    not ended. `halt`: why it must not run (opaque here), or None.
    """

    life: str
    sequence: int
    snapshot: SnapshotChain | None
    journal: list[JournalRecord]
    blobs: dict[bytes, bytes]
    unapplied: list[int]
    open: bool
    halt: bytes | None

    @property
    def first(self) -> int:
        return self.sequence - len(self.journal) + 1


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claimer receives, in one round trip. `previous_host`: who held the instance before, if any.

    `store`: names the store's present contents; it changes when they were lost or replaced as a whole.
    """

    token: OwnerToken
    data: InstanceData
    previous_host: str | None
    store: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic write at a gate. `sequence` must be the stored one + 1.

    `component`: the digest the instance runs from here on. `blobs`: payloads the entry refers to, by digest; one that
    is stored already is not stored again; each is kept until every record that a commit named it with is trimmed.
    `reserves`: an idempotency key that must have no result yet (implied by `result`). `pending`: the call was taken
    from the inbox, and must still be there. A `result` takes a pending call of its key out of the inbox; a commit
    that is `open` marks it as begun, so that it cannot be cancelled. `open`: the invocation goes on after it.
    `fresh`: the instance begins anew here: its snapshot and all earlier records are dropped. `foreign`: the entry
    carries effects for other stores; its sequence is kept in `unapplied` until `applied`. `result_retention_ms`:
    results older than this are pruned; at most `max_results` are kept per instance.
    """

    instance: str
    token: OwnerToken
    sequence: int
    entry: bytes
    component: str = ""
    effects: Sequence[Effect] = ()
    blobs: Mapping[bytes, bytes] = field(default_factory=dict)
    result: StoredResult | None = None
    reserves: str | None = None
    pending: str | None = None
    open: bool = False
    fresh: bool = False
    foreign: bool = False
    result_retention_ms: int = 24 * 3600 * 1000
    max_results: int = 10_000


class CommitStatus(enum.Enum):
    """APPLIED now; DUPLICATE: this very sequence had been applied under this token before, with these outcomes;
    KEY_USED: the key has a result, or another call waits under the result's key, nothing was applied; CANCELLED: the
    pending call is gone, nothing was applied."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    KEY_USED = "key-used"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Committed:
    """`outcomes`: of the atomic effects among the commit's effects, in their order."""

    status: CommitStatus
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SnapshotWrite:
    """Keep `data` as the state after `sequence` and drop the records up to it, with the blobs only they named.

    `follows`: the sequence of the present snapshot, which `data` is a delta to. None: `data` is whole and replaces it.
    """

    instance: str
    token: OwnerToken
    sequence: int
    data: bytes
    follows: int | None


@dataclass(frozen=True, slots=True)
class Parting:
    """What an instance is deleted with: only while `token` is the present one. `note` is put in the same transaction,
    into a bucket of the Worker."""

    token: OwnerToken
    note: Put | None = None

    @property
    def effects(self) -> list[Put]:
        return [] if self.note is None else [self.note]


@dataclass(frozen=True, slots=True)
class ForeignApply:
    """Effects of another home store's instance, applied here at most once under (origin, sequence).

    `origin`: the home Worker, the instance and its life, unique across stores. The dedup record is the highest
    sequence applied with its outcomes, kept beside the data in the same transaction; a sequence at or below it changes
    nothing. `sequence` 0 belongs to no instance: it is applied whenever it comes, and leaves no
    record. `instance`: of the store's own Worker, whose effects they are.
    """

    origin: str
    sequence: int
    effects: Sequence[Effect]
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """`cursor` None: the end. Keys are in byte order, so the cursor (the last key) is stable while others write."""

    keys: list[str]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """What the store knows of an instance. `host`: who claimed it last. `journal_entries`, `journal_bytes`: after the
    snapshot. `snapshot_bytes`: of `snapshot_parts`. `pending`: calls in its inbox.
    `listed`: it is in the index of those with something to do."""

    name: str
    sequence: int
    token: OwnerToken
    host: str
    component: str
    journal_entries: int
    journal_bytes: int
    snapshot_sequence: int
    snapshot_parts: int
    snapshot_bytes: int
    pending: int
    halt: bytes | None
    listed: bool

    @classmethod
    def of_nothing(cls, name: str) -> InstanceInfo:
        """Of an instance that no store knows anything of."""
        return cls(name, 0, OwnerToken(0, ""), "", "", 0, 0, 0, 0, 0, 0, None, listed=False)


@dataclass(frozen=True, slots=True)
class InstancePage:
    names: list[str]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class JournalPage:
    """`records` from sequence `first` on; `trimmed`: records up to this sequence are in the snapshot."""

    first: int
    records: list[JournalRecord]
    trimmed: int
    sequence: int


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host's registration: `url` is where other hosts reach its HTTP API."""

    host: str
    url: str


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """What was found at the provider. `durability`: "D0" memory, "D1" may lose the last second on a crash of the
    store, "D2" on disk before the acknowledgement, "D3" and on replicas, "D4" and on a synchronous standby.
    `warnings` are sentences for the status. `guarantee`: what it gives as a foreign store. `settings`: (name, value) of
    what the level stands on, in the store's own words."""

    kind: str
    version: str
    durability: str
    warnings: tuple[str, ...] = field(default=())
    guarantee: str = "exactly-once"
    settings: tuple[tuple[str, str], ...] = field(default=())
