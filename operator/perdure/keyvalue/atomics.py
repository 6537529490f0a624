"""Generation G4's compare-and-swap: a handle holds the value that was seen; `swap` replaces it if it is still there."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.component.types import Err, Ok, Variant
from perdure.keyvalue.bucket import Bucket, BucketError, KeyValueContext
from perdure.keyvalue.store import OpenBucket, failed


@dataclass(frozen=True, slots=True)
class Cas:
    """The resource `cas`."""

    bucket: Bucket
    key: str
    current: bytes | None


async def new(ctx: KeyValueContext, opened: OpenBucket, key: str) -> Ok | Err:
    try:
        return Ok(await _seen(opened.bucket, key))
    except BucketError as error:
        return failed(error)


def current(ctx: KeyValueContext, cas: Cas) -> Ok:
    return Ok(cas.current)


async def swap(ctx: KeyValueContext, cas: Cas, value: bytes) -> Ok | Err:
    """Where another value is there by now, the guest gets a new handle that holds it."""
    try:
        if await cas.bucket.swap(cas.key, cas.current, value):
            return Ok()
        return Err(Variant("cas-failed", await _seen(cas.bucket, cas.key)))
    except BucketError as error:
        return Err(Variant("store-error", failed(error).value))


async def _seen(bucket: Bucket, key: str) -> Cas:
    (value,) = await bucket.get_many([key])
    return Cas(bucket, key, value)
