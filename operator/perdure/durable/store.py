"""The Store contract: what the durability engine asks of a provider, and what it may rely on.

Two kinds of providers: a `Store` can be a Worker's home; a `ForeignStore` has the part that buckets need, and some
providers are no more than that. Of the guarantees below it gives those about effects and reads.

A Store is opened for one Worker (`WorkerId`). It keeps, for that Worker, the *instances* (owner token, sequence,
snapshot, journal, results under idempotency keys, inbox), the *buckets*, and the *hosts* that serve it.

Guarantees every provider gives (the conformance suite `tests/providers` states each as a test):

- **Equality fencing.** Whatever takes a token succeeds only while the instance's token equals the one given (epoch
  and nonce). A claim replaces the token atomically; there are no leases and no clocks in it.
- **All or nothing.** A commit's effects, journal record, blobs, result, inbox and sequence change together or not at
  all. So do a snapshot and the trimming of what it stands for.
- **Recognised resends.** A commit whose sequence was already applied *under the same token* changes nothing and
  answers `DUPLICATE` with the same outcomes. So after a lost reply the caller resends the very same commit. All other
  operations may be repeated as well.
- **Changes of watched buckets are in their feed**, in the transaction that makes them and numbered in the order of the
  commits, from the moment on when `watch` was answered. A resend adds none.
- **Reads are current.** A read that begins after a commit was acknowledged sees that commit.

Not promised: order between different instances' commits; isolation of a multi-key read from concurrent commits;
durability beyond `ProviderInfo.durability`.

Errors: `Fenced`, `TooLarge`, `ProviderUnavailable` (outcome unknown: resend), `FeedFull` (a watched bucket takes no
changes now, nothing was applied) and `LostWrites` (the store holds less than it acknowledged) of `perdure.errors`; any
other exception is a defect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from perdure.durable.effects import BucketAddress
from perdure.durable.feeds import FeedBounds, FeedPage, Watch
from perdure.durable.inbox import Accepted, Cancelled, Due, NewCall, PendingCall, Taken
from perdure.durable.policy import BucketLimits
from perdure.durable.records import (
    Claim,
    Commit,
    Committed,
    ForeignApply,
    HostRecord,
    InstanceData,
    InstanceInfo,
    InstancePage,
    JournalPage,
    KeyPage,
    OwnerToken,
    Parting,
    ProviderInfo,
    SnapshotWrite,
    StoredResult,
)


class OwnedStore(Protocol):
    """What the owner of an instance does, and whoever becomes it."""

    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        """Become the instance's writer: token (epoch + 1, nonce). Resent with the same nonce while still owner:
        the same token. The instance need not exist; it does from its first commit on."""

    async def verify(self, instance: str, token: OwnerToken) -> None:
        """Raise `Fenced` unless `token` is the present one."""

    async def commit(self, commit: Commit) -> Committed:
        """Apply `commit` atomically. Raises `Fenced` when the token differs, `LostWrites` when the stored sequence is
        below the one before it, `InternalError` when it is above."""

    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        """Confirm that the foreign effects of `sequence` have been applied."""

    async def snapshot(self, write: SnapshotWrite) -> bool:
        """Keep a snapshot and trim, in one transaction. Resent: True again. False, and nothing is changed: it does
        not follow the present one, there is no such sequence yet, or effects up to it are not confirmed."""

    async def halt(self, instance: str, token: OwnerToken, reason: bytes | None) -> None:
        """Say why the instance must not run (None: it may). A halted one is not among the `due`."""

    async def take(self, instance: str, token: OwnerToken) -> Taken:
        """Count an attempt of the pending call that is due first, and give it."""

    async def postpone(self, instance: str, token: OwnerToken, key: str, delay_ms: int, failure: bytes) -> None:
        """An attempt of a pending call failed: it is due again after `delay_ms`. A key that is not pending is fine."""


class InstanceStore(Protocol):
    """What may be asked about an instance without being its owner."""

    async def result(self, instance: str, key: str) -> StoredResult | None:
        """The result stored under an idempotency key, or None."""

    async def instances(self, cursor: str | None, limit: int) -> InstancePage:
        """Names of the instances that have committed something, in byte order."""

    async def instance(self, instance: str) -> InstanceInfo | None:
        """What is stored of one instance, or None where nothing was committed, nothing is pending, and it is not
        halted."""

    async def peek(self, instance: str) -> InstanceData | None:
        """What a claim would give, without claiming; None where there was none."""

    async def journal(self, instance: str, after: int, limit: int) -> JournalPage | None:
        """Up to `limit` records with sequences above `after`, or None where there is no instance."""

    async def blobs(self, instance: str, digests: Sequence[bytes]) -> list[bytes | None]:
        """Payloads in the order of `digests`."""

    async def delete_instance(self, instance: str, parting: Parting | None = None) -> bool:
        """Remove the instance's journal, snapshot, results, inbox, token and private buckets; a present owner is
        fenced. False: there was none. With a `parting`, one that nobody has claimed is none, and another's
        is `Fenced`: nothing is changed then."""


class InboxStore(Protocol):
    """Asynchronous calls, and who has something to do."""

    async def enqueue(self, instance: str, call: NewCall, max_pending: int) -> Accepted:
        """Accept a call: from now on it runs even if every host dies. The instance need not exist."""

    async def cancel(self, instance: str, key: str) -> Cancelled:
        """Withdraw a pending call of which nothing is durable. A host that runs it now cannot commit it any more."""

    async def pending(self, instance: str, key: str) -> PendingCall | None:
        """One pending call."""

    async def inbox(self, instance: str, limit: int) -> list[PendingCall]:
        """The first pending calls, in the order in which they will be taken, due or not."""

    async def due(self, limit: int) -> Due:
        """Instances with something to do, found by an index."""


class BucketStore(Protocol):
    """The buckets."""

    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        """Apply another store's instance's effects exactly once; APPLIED or DUPLICATE, with the outcomes of the
        atomic ones (a DUPLICATE below the highest sequence applied has none). Of sequence 0 always APPLIED."""

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        """Values in the order of `keys`; expired ones are None."""

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        """Up to `limit` live keys after `cursor`, in byte order of their UTF-8."""

    async def count(self, bucket: BucketAddress) -> int:
        """Number of live keys. May cost a look at all of them."""


@runtime_checkable
class FeedStore(Protocol):
    """Watched buckets, of scope Worker or Namespace: `perdure.durable.feeds`."""

    async def watch(self, bucket: BucketAddress, instance: str, bounds: FeedBounds) -> None:
        """Keep the bucket's changes for this Worker, those of `instance` excepted, from now on. Again: it is renewed,
        and goes on from the place it has reached."""

    async def watches(self) -> list[Watch]:
        """Those of this Worker."""

    async def unwatch(self, bucket: BucketAddress, idle_ms: int) -> None:
        """End this Worker's watch, unless it was renewed in the last `idle_ms`. There need not be one."""

    async def changes(self, bucket: BucketAddress, after: int, limit: int) -> FeedPage | None:
        """Up to `limit` changes, and up to about `PAGE_BYTES`, after `after` or the place that was reached, whichever
        is later. None: this Worker does not watch the bucket."""

    async def told(self, bucket: BucketAddress, life: str, number: int) -> None:
        """The watch has reached `number`, in that life of the feed. It never goes back."""


class WorkerStore(Protocol):
    """What belongs to the Worker as a whole."""

    async def announce(self, record: HostRecord, ttl_ms: int) -> list[HostRecord]:
        """Register or refresh this host for `ttl_ms` and return all live hosts, this one included."""

    async def leave(self, host: str) -> None:
        """Withdraw a host's registration."""

    async def keep_component(self, digest: str, data: bytes, spared: Sequence[str] = ()) -> None:
        """Keep a component's bytes, and drop those of others on which no instance runs, the `spared` ones excepted."""

    async def component(self, digest: str) -> bytes | None:
        """A component's bytes, if they were kept."""

    async def components(self) -> dict[str, int]:
        """How many instances run on each component, by digest."""


class ForeignStore(BucketStore, Protocol):
    """What a provider of buckets only has. All methods are safe to call concurrently and to cancel."""

    @property
    def namespace_is_home(self) -> bool:
        """Whether a commit may have effects on Namespace buckets. Where it may not, they are applied by this very
        store's `apply_foreign`, and never together with others (a Redis Cluster keeps them in another slot)."""

    @property
    def limits(self) -> BucketLimits:
        """What `apply_foreign` can take, known without the server: more is refused before the home commit, which would
        otherwise carry effects that can never be applied."""

    async def purge(self, progress: Callable[[int], None]) -> int:
        """Delete everything of this Worker (not Namespace buckets), in bounded steps; returns keys removed."""

    async def ping(self) -> ProviderInfo:
        """One cheap round trip that proves the store can be used for writes."""

    async def close(self) -> None:
        """Release connections; idempotent."""


class Store(OwnedStore, InstanceStore, InboxStore, FeedStore, WorkerStore, ForeignStore, Protocol):
    """What can be a home. See the module docstring for guarantees. A cancelled commit has an unknown outcome."""
