"""Answering a guest's write: at once where it is buffered, after the gate where there is one. And counters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeAlias

from perdure.component.types import Err, Ok
from perdure.keyvalue.bucket import Bucket, BucketError

Written: TypeAlias = Ok | Err | Coroutine[object, object, Ok | Err]


def written(write: Callable[[], Awaitable[None] | None], failed: Callable[[BucketError], Err]) -> Written:
    """What a host function gives back for `write`; `failed` makes its interface's error."""
    try:
        gate = write()
    except BucketError as error:
        return failed(error)
    return Ok() if gate is None else _passed(gate, failed)


async def _passed(gate: Awaitable[None], failed: Callable[[BucketError], Err]) -> Ok | Err:
    try:
        await gate
    except BucketError as error:
        return failed(error)
    return Ok()


async def count(bucket: Bucket, key: str, delta: int, *, unsigned: bool) -> int:
    """Increment a counter. `unsigned`: the guest's interface has no sign. Raises BucketError."""
    value = await bucket.increment(key, delta)
    if unsigned and value < 0:
        raise BucketError(f"the counter is {value} now, which this version of the interface has no number for")
    return value
