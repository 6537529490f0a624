"""Generations G1 and G2: `cache`. What its functions give comes through futures.

All but one are ready at once: the guest's fiber has waited for the store as it does elsewhere. A `get-or-set` that
finds a vacancy of another caller's is ready when that is filled, or its own to fill (`Rendezvous`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from perdure.component.host import HostFunction
from perdure.component.types import Err, FuncType, Ok, OptionType, OwnType, ResultType, Variant
from perdure.keyvalue.bucket import Bucket, BucketError, Cache, Claim, KeyValueContext
from perdure.keyvalue.legacy import KEY_NOT_FOUND
from perdure.keyvalue.values import ErrorValue, IncomingValue, OutgoingValue, failed, taken
from perdure.wasi.polling import Pollable
from perdure.wasi.state import WasiState

_PAUSE = 0.005


class CacheContext(KeyValueContext, Protocol):
    """The guest's buckets, and the clock and journal that its waits need."""

    @property
    def wasi(self) -> WasiState: ...


@dataclass(frozen=True, slots=True)
class Future:
    """A result that is there."""

    result: Ok | Err


@dataclass(slots=True)
class Vacancy:
    """The resource `vacancy`. `used`: it was given up or is being filled."""

    cache: Cache
    key: str
    claim: Claim
    used: bool = False


@dataclass(frozen=True, slots=True)
class VacancyFill:
    """See `perdure.keyvalue.values.Fill`."""

    cache: Cache
    key: str
    claim: Claim
    ttl_ms: int | None

    def fill(self, data: bytes) -> Awaitable[None] | None:
        if self.ttl_ms == 0:
            return self.give_up()
        return self.cache.fill(self.key, self.claim, data, self.ttl_ms)

    def give_up(self) -> Awaitable[None] | None:
        return self.cache.give_up(self.key, self.claim)


Found: TypeAlias = bytes | Claim | str
"""A value, a vacancy, or why neither could be had."""


class Rendezvous:
    """The future of a `get-or-set`. Implements `perdure.wasi.polling.Awaited`."""

    def __init__(self, number: int, cache: Cache, key: str) -> None:
        self.number = number
        self.cache = cache
        self.key = key
        self.found: Found | None = None
        self._free = False

    @property
    def name(self) -> str:
        return f"cache.get-or-set#{self.number}"

    @property
    def settled(self) -> bool:
        return self.found is not None

    async def begin(self, state: WasiState) -> None:
        if self.settled:
            return
        await self.cache.before_wait()
        if not state.recorder.replaying:
            self._free = await self.cache.free(self.key)

    def ready(self) -> bool:
        return self.settled or self._free

    async def wait(self) -> None:
        await self.cache.until_free(self.key)
        self._free = True

    async def observe(self, state: WasiState) -> None:
        """Others may be quicker, again and again: each time it waits on."""
        while not await self.look():
            if not state.recorder.replaying:
                await self.cache.until_free(self.key)

    async def look(self) -> bool:
        """Whether it is settled now."""
        if self.found is None:
            try:
                self.found = await self.cache.look(self.key)
            except BucketError as error:
                self.found = str(error)
        return self.settled


async def get(ctx: KeyValueContext, key: str) -> Future:
    try:
        (value,) = await ctx.keyvalue.cache().bucket.get_many([key])
    except BucketError as error:
        return Future(failed(error))
    return Future(Ok(None if value is None else IncomingValue(value)))


async def exists(ctx: KeyValueContext, key: str) -> Future:
    try:
        return Future(Ok(await ctx.keyvalue.cache().bucket.exists(key)))
    except BucketError as error:
        return Future(failed(error))


def set_function(kind: FuncType) -> HostFunction:
    given = isinstance(kind.params[1][1], OwnType)

    async def set_value(ctx: KeyValueContext, key: str, outgoing: OutgoingValue, ttl_ms: int | None) -> Future:
        data = taken(outgoing, given=given)
        # Over as soon as it is set.
        dead = ttl_ms == 0
        return await _written(
            ctx, lambda bucket: _delete(bucket, key) if dead else bucket.set_many([(key, data)], ttl_ms)
        )

    return set_value


async def delete(ctx: KeyValueContext, key: str) -> Future:
    return await _written(ctx, lambda bucket: _delete(bucket, key))


async def get_or_set(ctx: KeyValueContext, key: str) -> Future | Rendezvous:
    try:
        made = Rendezvous(ctx.keyvalue.shared.next(), ctx.keyvalue.cache(), key)
    except BucketError as error:
        return Future(failed(error))
    await made.look()
    return made


def got_function(kind: FuncType) -> HostFunction:
    """`future-…-get`. Where the type has no option for a value, a missing key is an error."""
    result = kind.result.some if isinstance(kind.result, OptionType) else None
    valued = isinstance(result, ResultType) and isinstance(result.ok, OwnType)

    def got(ctx: KeyValueContext, future: Future) -> Ok | Err:
        return Err(ErrorValue(KEY_NOT_FOUND)) if valued and future.result == Ok(None) else future.result

    return got


async def got_entry(ctx: CacheContext, future: Future | Rendezvous) -> Ok | Err | None:
    """`future-get-or-set-result-get`. A vacancy is given once."""
    if isinstance(future, Future):
        return future.result
    if not future.settled:
        await future.begin(ctx.wasi)
        if not await future.look() and not ctx.wasi.recorder.replaying:
            # A guest that asks again and again must not ask the store as often.
            await asyncio.sleep(_PAUSE)
    match future.found:
        case None:
            return None
        case bytes() as value:
            return Ok(Variant("occupied", IncomingValue(value)))
        case Claim() as claim:
            future.found = "the vacancy was given to an earlier call"
            return Ok(Variant("vacant", Vacancy(future.cache, future.key, claim)))
        case str() as words:
            return Err(ErrorValue(words))


def listen_to(ctx: KeyValueContext, future: Future | Rendezvous) -> Pollable:
    return Pollable(source=future) if isinstance(future, Rendezvous) else Pollable()


def vacancy_fill(ctx: KeyValueContext, vacancy: Vacancy, ttl_ms: int | None) -> OutgoingValue:
    vacancy.used = True
    fill = VacancyFill(vacancy.cache, vacancy.key, vacancy.claim, ttl_ms)
    return OutgoingValue(ctx.keyvalue.shared, ctx.keyvalue.shared.next(), vacancy.cache.largest_value, fill=fill)


def drop_vacancy(ctx: KeyValueContext, vacancy: Vacancy) -> object:
    """Another may have it at once."""
    if vacancy.used:
        return None
    return vacancy.cache.give_up(vacancy.key, vacancy.claim)


def drop_future(ctx: KeyValueContext, future: Future | Rendezvous) -> object:
    if not isinstance(future, Rendezvous) or not isinstance(future.found, Claim):
        return None
    return future.cache.give_up(future.key, future.found)


def _delete(bucket: Bucket, key: str) -> Awaitable[None] | None:
    return bucket.delete_many([key])


async def _written(ctx: KeyValueContext, write: Callable[[Bucket], Awaitable[None] | None]) -> Future:
    try:
        gate = write(ctx.keyvalue.cache().bucket)
        if gate is not None:
            await gate
    except BucketError as error:
        return Future(failed(error))
    return Future(Ok())
