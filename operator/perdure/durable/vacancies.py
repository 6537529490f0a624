"""The cache of one instance: a bucket, and beside it the claims on values that are missing.

Of the callers that miss a value one gets its *vacancy*, by a swap of nothing for a marker of its own, which lives as
long as a lease. It ends with the fill, in the same commit as the value; when it is given up; or when the lease does.
Claims have a bucket of their own, so that no listing shows them and no value can be taken for one.

A claim that is ended early is swapped for nothing at all (b""), and only by its holder: whoever overstays the lease
must not end the next one's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING

from perdure.durable.effects import Swap
from perdure.durable.policy import CLAIMS
from perdure.errors import ProviderUnavailable
from perdure.keyvalue.bucket import Claim

if TYPE_CHECKING:
    from perdure.durable.buckets import InstanceBucket, InstanceBuckets

_MARKER = 16
_FREE = b""
_FREED_MS = 1000
_FIRST, _LONGEST = 0.005, 0.5


class InstanceCache:
    """See `perdure.keyvalue.bucket.Cache`."""

    def __init__(self, host: InstanceBuckets, bucket: InstanceBucket) -> None:
        self.bucket = bucket
        self._host = host
        policy = bucket.policy
        self._claims = host.bucket(
            replace(
                policy,
                name=policy.name + CLAIMS,
                physical=(policy.physical or policy.name) + CLAIMS,
                ttl_ms=host.catalog.cache.lease_ms,
                max_value_bytes=_MARKER,
                max_keys=None,
            )
        )

    @property
    def largest_value(self) -> int:
        return self.bucket.policy.max_value_bytes

    async def look(self, key: str) -> bytes | Claim | None:
        value = await self._value(key)
        if value is not None:
            return value
        (held,) = await self._claims.get_many([key])
        if held:
            return None
        marker = self._host.recorder.record(
            "cache.marker", (self.bucket.name, key), lambda: self._host.entropy(_MARKER)
        )
        assert isinstance(marker, bytes)
        if not await self._claims.swap(key, held, marker):
            return None
        # Its holder may have filled it between the two looks; now that this one holds it, nobody else can.
        value = await self._value(key)
        if value is None:
            return Claim(marker)
        gate = self.give_up(key, Claim(marker))
        if gate is not None:
            await gate
        return value

    def fill(self, key: str, claim: Claim, value: bytes, ttl_ms: int | None) -> Awaitable[None] | None:
        if self.bucket.policy.max_keys is not None:
            return self._fill_where_room(key, claim, value, ttl_ms)

        def write() -> Awaitable[None] | None:
            self.bucket.put_many([(key, value)], ttl_ms)
            self._end(key, claim.marker)
            return self._host.gates.after_write()

        return self._host.gates.before_write(len(value), write)

    async def _fill_where_room(self, key: str, claim: Claim, value: bytes, ttl_ms: int | None) -> None:
        """Where there is none, the vacancy goes on at once."""
        self._end(key, claim.marker)
        gate = self.bucket.set_many([(key, value)], ttl_ms)
        if gate is not None:
            await gate

    def give_up(self, key: str, claim: Claim) -> Awaitable[None] | None:
        def write() -> Awaitable[None] | None:
            self._end(key, claim.marker)
            return self._host.gates.after_write()

        return self._host.gates.before_write(0, write)

    async def before_wait(self) -> None:
        await self._host.gates.before_rendezvous()

    async def free(self, key: str) -> bool:
        if await self.bucket.peek(key) is not None:
            return True
        return not await self._claims.peek(key)

    async def until_free(self, key: str) -> None:
        delay = _FIRST
        while True:
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            try:
                if await self.free(key):
                    return
            except ProviderUnavailable:
                # The look that follows meets it, and says so.
                return
            delay = min(delay * 2, _LONGEST)

    async def _value(self, key: str) -> bytes | None:
        return (await self.bucket.get_many([key]))[0]

    def _end(self, key: str, marker: bytes) -> None:
        policy = self._claims.policy
        effect = Swap(policy.address(self._host.instance), key, marker, _FREE, _FREED_MS)
        self._host.overlay.also(policy.provider, effect)
