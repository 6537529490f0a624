"""The Bucket protocol: what the guest interfaces of every generation speak to.

The durability engine implements it (write overlay, journal, limits); this package only translates between a
generation's signatures and these calls. All values are bytes, all keys text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.keyvalue.shared import Shared


class BucketError(Exception):
    """Base of what a guest gets as its interface's own error value; the text is for its author."""


class NoSuchBucket(BucketError):
    """The manifest does not declare the bucket and `undeclaredBuckets` is Deny."""


class AccessDenied(BucketError):
    """A write to a bucket whose access is ReadOnly."""


class LimitExceeded(BucketError):
    """A key or value over the bucket's bound."""


class BucketFull(LimitExceeded):
    """A key that would be one more than the bucket may have."""


class Bucket(Protocol):
    """An open bucket of one instance. Reads see this invocation's own buffered writes."""

    @property
    def name(self) -> str:
        """The name the guest opened it by."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Values in the order of `keys`, None where missing. Raises BucketError."""

    async def exists(self, key: str) -> bool:
        """Whether `key` is present."""

    def set_many(self, items: Sequence[tuple[str, bytes]], ttl_ms: int | None = None) -> Awaitable[None] | None:
        """Buffer writes until the next gate. What is given must be awaited: a gate is here. Raises BucketError and
        then buffers none of them. `ttl_ms`: time to live from the commit on, where it is shorter than the bucket's."""

    def delete_many(self, keys: Sequence[str]) -> Awaitable[None] | None:
        """Buffer deletions until the next gate; missing keys are fine."""

    async def increment(self, key: str, delta: int) -> int:
        """Add to a counter, at once and exactly once; a missing one is 0. Raises BucketError: the value is no counter,
        or would not fit 64 bits with a sign."""

    async def swap(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Set a key if it holds `expected` (None: is missing), at once and exactly once. False: it does not."""

    async def compare_and_swap(self, key: str, old: int, new: int) -> bool:
        """Set a counter to `new` if it is `old`, at once and exactly once. False: it is another number, or missing.
        Raises BucketError: the value is no counter, or one of the numbers does not fit 64 bits with a sign."""

    async def keys(self, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """Up to `limit` keys after `cursor` in byte order, and the next cursor (None: the end)."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A vacancy that is this instance's to fill. `marker` tells it from every other one."""

    marker: bytes


class Cache(Protocol):
    """The bucket of the first generations' `cache`, where callers that miss a value meet."""

    @property
    def bucket(self) -> Bucket:
        """Its values."""

    @property
    def largest_value(self) -> int:
        """Bytes that it takes as one value."""

    async def look(self, key: str) -> bytes | Claim | None:
        """The value; or its vacancy, claimed at once and exactly once; or None: the vacancy is another's. Raises
        BucketError."""

    def fill(self, key: str, claim: Claim, value: bytes, ttl_ms: int | None) -> Awaitable[None] | None:
        """Buffer the value and the end of the claim. What is given must be awaited: a gate is here. Raises
        BucketError."""

    def give_up(self, key: str, claim: Claim) -> Awaitable[None] | None:
        """Buffer the end of the claim. As `fill`."""

    async def before_wait(self) -> None:
        """A gate, if something is buffered that another may wait for."""

    async def free(self, key: str) -> bool:
        """Live only: whether a `look` would not give None now."""

    async def until_free(self, key: str) -> None:
        """Live only: wait until then. May be cancelled."""


class KeyValueHost(Protocol):
    """Opens buckets; an instance's guest context carries one as `ctx.keyvalue`."""

    @property
    def shared(self) -> Shared:
        """Of this instance's guest."""

    @property
    def largest_value(self) -> int:
        """Bytes that the roomiest bucket takes as one value."""

    def open(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""

    def cache(self) -> Cache:
        """Raises NoSuchBucket."""


class KeyValueContext(Protocol):
    """What host functions of this package get as their first argument."""

    @property
    def keyvalue(self) -> KeyValueHost:
        """The calling instance's buckets."""
