"""Writes to buckets by who is no guest: callers of the API. Each is one transaction of the store and belongs to no
instance; the bucket's settings hold as for guests.

A write whose answer is lost may be sent again: it has no record, so it is then carried out again, or, if it is
conditional, finds what it wrote itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from perdure.durable.effects import Effect, Fill, Outcome, Put, Refused, Remove, Swap, Swapped
from perdure.durable.foreign import apply_unrecorded
from perdure.durable.policy import BucketPolicy
from perdure.durable.store import BucketStore
from perdure.errors import BucketFull, PreconditionFailed, ProviderUnavailable

_ATTEMPTS = 16


def etag_of(value: bytes) -> str:
    """Names a value, in quotes."""
    return f'"{hashlib.blake2b(value, digest_size=16).hexdigest()}"'


@dataclass(frozen=True, slots=True)
class OutsideBucket:
    """A bucket as it is written from outside. `instance`: whose it is, of a private one."""

    store: BucketStore
    policy: BucketPolicy
    instance: str

    async def put(self, key: str, value: bytes) -> None:
        """Raises `keyvalue.BucketError`, `BucketFull`, `FeedFull`, `ProviderUnavailable`; so do the others."""
        self.policy.check_write(key, value)
        address, bound, ttl_ms = self.policy.address(self.instance), self.policy.max_keys, self.policy.ttl_ms
        if bound is None:
            await self._apply(Put(address, key, value, ttl_ms))
        else:
            await self._apply(Fill(address, ((key, value),), bound, ttl_ms))

    async def create(self, key: str, value: bytes) -> None:
        """Raises `PreconditionFailed` where the key is there."""
        self.policy.check_write(key, value)
        if not await self._swap(key, None, value):
            raise PreconditionFailed(f"bucket {self.policy.name!r} has the key {key!r}")

    async def replace(self, key: str, value: bytes, known: Callable[[bytes], bool]) -> None:
        """Where the present value is `known`. Raises `PreconditionFailed`."""
        self.policy.check_write(key, value)
        for _ in range(_ATTEMPTS):
            (present,) = await self.store.get_many(self.policy.address(self.instance), [key])
            if present is None or not known(present):
                what = "does not have" if present is None else "has another value under"
                raise PreconditionFailed(f"bucket {self.policy.name!r} {what} the key {key!r}")
            if await self._swap(key, present, value):
                return
        raise ProviderUnavailable(f"others changed the key {_ATTEMPTS} times in a row")

    async def delete(self, key: str) -> None:
        """A missing key is fine."""
        self.policy.check_write(key, b"")
        await self._apply(Remove(self.policy.address(self.instance), key))

    async def _swap(self, key: str, expected: bytes | None, value: bytes) -> bool:
        address = self.policy.address(self.instance)
        effect = Swap(address, key, expected, value, self.policy.ttl_ms, self.policy.max_keys)
        return await self._apply(effect) == [Swapped()]

    async def _apply(self, effect: Effect) -> list[Outcome]:
        outcomes = await apply_unrecorded(self.store, effect)
        if outcomes == [Refused("full")]:
            raise BucketFull(
                f"bucket {self.policy.name!r} has {self.policy.max_keys:,} keys, as many as it may (maxKeys)"
            )
        return outcomes
