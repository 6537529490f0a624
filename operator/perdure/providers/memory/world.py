"""What the Stores of one process share: the stand-in for a server. Plain data; the rules are in the other modules."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from perdure.durable.effects import BucketAddress, Outcome
from perdure.durable.feeds import FeedBounds
from perdure.durable.inbox import PendingCall
from perdure.durable.records import HostRecord, JournalRecord, OwnerToken, SnapshotChain, StoredResult, WorkerId


@dataclass(slots=True)
class Pending:
    """A call of an inbox. `accepted` numbers the calls in the order of their acceptance."""

    call: PendingCall
    accepted: int

    @property
    def order(self) -> tuple[int, int]:
        return self.call.due_ms, self.accepted


@dataclass(slots=True)
class Blob:
    """`last`: the highest sequence whose commit named it."""

    data: bytes
    last: int


@dataclass(slots=True)
class Instance:
    """`token`: epoch 0 before the first claim. `base`: its sequence when `token` was given: what is above it was
    applied under this very token. `results`: with the second at which each ends, in the order of their storing."""

    token: OwnerToken = OwnerToken(0, "")
    host: str = ""
    life: str = ""
    base: int = 0
    sequence: int = 0
    open: bool = False
    component: str = ""
    halt: bytes | None = None
    snapshot: SnapshotChain | None = None
    journal: list[JournalRecord] = field(default_factory=list)
    blobs: dict[bytes, Blob] = field(default_factory=dict)
    unapplied: set[int] = field(default_factory=set)
    results: dict[str, tuple[StoredResult, float]] = field(default_factory=dict)
    inbox: dict[str, Pending] = field(default_factory=dict)


@dataclass(slots=True)
class Value:
    """`expires`: the second from which on it is gone."""

    data: bytes
    expires: float | None

    def live(self, now: float) -> bool:
        return self.expires is None or self.expires > now


@dataclass(slots=True)
class Mark:
    """The dedup record of one origin of foreign effects."""

    sequence: int
    outcomes: list[Outcome]


@dataclass(slots=True)
class Watcher:
    """A Worker's watch. `reached`: the number it was told of last. `renewed`: second of the clock."""

    bucket: BucketAddress
    instance: str
    reached: int
    renewed: float


@dataclass(slots=True)
class Appended:
    """A change in a feed. `writer`: the Worker's name and the instance that made it."""

    number: int
    key: str
    value: bytes | None
    writer: tuple[str, str] | None

    @property
    def size(self) -> int:
        return len(self.key.encode()) + len(self.value or b"")


@dataclass(slots=True)
class Feed:
    """Of a watched bucket. `watchers`: by the Worker's name. `last`: the latest number."""

    life: str
    bounds: FeedBounds
    watchers: dict[str, Watcher] = field(default_factory=dict)
    last: int = 0
    changes: list[Appended] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.changes) >= self.bounds.changes or sum(one.size for one in self.changes) >= self.bounds.bytes

    def heeds(self, writer: tuple[str, str] | None) -> bool:
        """Whether somebody is to be told of what `writer` changes."""
        return any((worker, found.instance) != writer for worker, found in self.watchers.items())


BucketKey = tuple[str, str, str]
"""Name of the Worker ("" for a Namespace's bucket), name of the bucket, "i" and the instance or ""."""


@dataclass(slots=True)
class WorkerData:
    """All that belongs to one Worker. `identity`: set by the first claim."""

    identity: str = ""
    accepted: int = 0
    instances: dict[str, Instance] = field(default_factory=dict)
    hosts: dict[str, tuple[HostRecord, float]] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    components: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class MemoryWorld:
    """`now`: the clock, in seconds since 1970. `buckets`, `feeds`: by namespace."""

    now: Callable[[], float] = time.time
    workers: dict[WorkerId, WorkerData] = field(default_factory=dict)
    buckets: dict[str, dict[BucketKey, dict[str, Value]]] = field(default_factory=dict)
    feeds: dict[str, dict[BucketKey, Feed]] = field(default_factory=dict)

    def now_ms(self) -> int:
        return int(self.now() * 1000)
