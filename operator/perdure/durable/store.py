"""The Store contract: what the durability engine asks of a provider, and what it may rely on.

A Store is opened for one Worker (`WorkerId`). It keeps, for that Worker, the *instances* (owner token, sequence,
journal, results under idempotency keys), the *buckets*, and the *hosts* that serve it.

Guarantees every provider gives (the conformance suite `tests/providers` states each as a test):

- **Equality fencing.** `commit`, `applied` and `verify` succeed only while the instance's token equals the one
  given (epoch and nonce). A claim replaces the token atomically; there are no leases and no clocks in it.
- **All or nothing.** A commit's effects, journal entry, result and sequence become visible together or not at all.
- **Recognised resends.** A commit whose sequence was already applied *under the same token* changes nothing and
  answers `DUPLICATE`. So after a lost reply the caller resends the very same commit.
- **Reads are current.** A read that begins after a commit was acknowledged sees that commit.

Not promised: order between different instances' commits; isolation of a multi-key read from concurrent commits;
durability beyond `ProviderInfo.durability`.

Errors: `Fenced`, `TooLarge`, `ProviderUnavailable` (outcome unknown: resend) of `perdure.errors`; any other
exception is a defect.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


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


class Scope(enum.StrEnum):
    """Who shares a bucket."""

    WORKER = "Worker"
    INSTANCE = "Instance"
    NAMESPACE = "Namespace"


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """One physical bucket within a Store. `instance` is set for scope INSTANCE only. Names hold any characters."""

    scope: Scope
    name: str
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Set `key` to `value`. `ttl_ms`: time to live from the commit on, by the store's clock."""

    bucket: BucketAddress
    key: str
    value: bytes
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete `key`; a missing key is fine."""

    bucket: BucketAddress
    key: str


Effect = Put | Remove


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What an idempotency key is bound to. `fingerprint` identifies function and arguments."""

    key: str
    fingerprint: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claimer receives, in one round trip. `sequence` is the last applied one (0: none yet).

    `life`: told from every other life of an instance of this name. Set by its first claim, it stays until the
    instance is deleted; its sequences mean nothing outside it. `journal`: all entries, oldest first. `unapplied`:
    sequences whose foreign effects are not confirmed yet. `previous_host`: who held the instance before, if any.
    """

    token: OwnerToken
    life: str
    sequence: int
    journal: list[bytes]
    unapplied: list[int]
    previous_host: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic write at a gate. `sequence` must be the stored one + 1.

    `foreign`: the entry carries effects for other stores; its sequence is kept in `unapplied` until `applied`.
    `result_retention_ms`: results older than this are pruned; at most `max_results` are kept per instance.
    """

    instance: str
    token: OwnerToken
    sequence: int
    entry: bytes
    effects: Sequence[Effect] = ()
    result: StoredResult | None = None
    foreign: bool = False
    result_retention_ms: int = 24 * 3600 * 1000
    max_results: int = 10_000


class CommitOutcome(enum.Enum):
    """APPLIED now, or DUPLICATE: this very sequence had been applied under this token before."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class ForeignApply:
    """Effects of another home store's instance, applied here at most once under (origin, sequence).

    `origin`: the home Worker, the instance and its life, unique across stores. The dedup record is the highest
    sequence applied, kept beside the data in the same transaction; a sequence at or below it changes nothing.
    """

    origin: str
    sequence: int
    effects: Sequence[Effect]


@dataclass(frozen=True, slots=True)
class KeyPage:
    """`cursor` None: the end. Keys are in byte order, so the cursor (the last key) is stable while others write."""

    keys: list[str]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """What the store knows of an instance. `host`: who claimed it last."""

    name: str
    sequence: int
    token: OwnerToken
    host: str
    journal_entries: int
    journal_bytes: int


@dataclass(frozen=True, slots=True)
class InstancePage:
    names: list[str]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host's registration: `url` is where other hosts reach its HTTP API."""

    host: str
    url: str


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """What was found at the provider. `durability`: "D0" memory, "D1" may lose the last second on a crash of the
    store, "D2" on disk before the acknowledgement, "D3" and on replicas. `warnings` are sentences for the status."""

    kind: str
    version: str
    durability: str
    warnings: tuple[str, ...] = field(default=())


class Store(Protocol):
    """See the module docstring for guarantees. All methods are safe to call concurrently and to cancel; a
    cancelled commit has an unknown outcome."""

    async def ping(self) -> ProviderInfo:
        """One cheap round trip that proves the store can be used for writes."""

    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        """Become the instance's writer: token (epoch + 1, nonce). Resent with the same nonce while still owner:
        the same token. The instance need not exist; it does from its first commit on."""

    async def verify(self, instance: str, token: OwnerToken) -> None:
        """Raise `Fenced` unless `token` is the present one."""

    async def commit(self, commit: Commit) -> CommitOutcome:
        """Apply `commit` atomically. Raises `Fenced` when the token differs, `InternalError` on a sequence gap."""

    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        """Confirm that the foreign effects of `sequence` have been applied."""

    async def result(self, instance: str, key: str) -> StoredResult | None:
        """The result stored under an idempotency key, or None."""

    async def apply_foreign(self, apply: ForeignApply) -> CommitOutcome:
        """Apply another store's instance's effects exactly once."""

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        """Values in the order of `keys`; expired ones are None."""

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        """Up to `limit` live keys after `cursor`, in byte order of their UTF-8."""

    async def count(self, bucket: BucketAddress) -> int:
        """Number of keys (expired ones may still be counted)."""

    async def instances(self, cursor: str | None, limit: int) -> InstancePage:
        """Names of the instances, in byte order."""

    async def instance(self, instance: str) -> InstanceInfo | None:
        """What is stored of one instance, or None."""

    async def delete_instance(self, instance: str) -> bool:
        """Remove the instance's journal, results, token and private buckets; a present owner is fenced.
        False: there was none."""

    async def announce(self, record: HostRecord, ttl_ms: int) -> list[HostRecord]:
        """Register or refresh this host for `ttl_ms` and return all live hosts, this one included."""

    async def leave(self, host: str) -> None:
        """Withdraw a host's registration."""

    async def purge(self, progress: Callable[[int], None]) -> int:
        """Delete everything of this Worker (not Namespace buckets), in bounded steps; returns keys removed."""

    async def close(self) -> None:
        """Release connections; idempotent."""
