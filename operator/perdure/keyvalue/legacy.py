"""Generations G1 and G2: resources for values and errors, `readwrite`/`batch` and `eventual`/`eventual-batch`.

The two differ in what a missing key is (G1: an error that reads `Key not found`; G2: none); the function's own type
says which. Handles may come as `own` or `borrow`: the value is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.component.host import HostFunction
from perdure.component.traps import HostTrap
from perdure.component.types import Err, FuncType, ListType, Ok, OptionType, ResultType
from perdure.keyvalue.bucket import Bucket, BucketError, KeyValueHost
from perdure.keyvalue.writes import Written, count, written

KEY_NOT_FOUND = "Key not found"
MAX_KEYS = 100_000
_PAGE = 1000


class KeyValueContext(Protocol):
    """What host functions of this package get as their first argument."""

    @property
    def keyvalue(self) -> KeyValueHost:
        """The calling instance's buckets."""


@dataclass(frozen=True, slots=True)
class ErrorValue:
    """The resource `error`."""

    text: str


@dataclass(slots=True)
class OutgoingValue:
    """The resource `outgoing-value`."""

    data: bytes = b""


@dataclass(frozen=True, slots=True)
class IncomingValue:
    """The resource `incoming-value`."""

    data: bytes


def trace(ctx: KeyValueContext, error: ErrorValue) -> str:
    return error.text


def open_bucket(ctx: KeyValueContext, name: str) -> Ok | Err:
    try:
        return Ok(ctx.keyvalue.open(name))
    except BucketError as error:
        return _failed(error)


def new_outgoing_value(ctx: KeyValueContext) -> OutgoingValue:
    return OutgoingValue()


def write_body(ctx: KeyValueContext, outgoing: OutgoingValue, data: bytes) -> Ok:
    outgoing.data = data
    return Ok()


def consume_body(ctx: KeyValueContext, incoming: IncomingValue) -> Ok:
    return Ok(incoming.data)


def size_function(kind: FuncType) -> HostFunction:
    """`size`, which is plain in G1 and a result in G2."""
    if isinstance(kind.result, ResultType):
        return lambda ctx, incoming: Ok(len(incoming.data))
    return lambda ctx, incoming: len(incoming.data)


def get_function(kind: FuncType) -> HostFunction:
    optional = isinstance(kind.result, ResultType) and isinstance(kind.result.ok, OptionType)

    async def get(ctx: KeyValueContext, bucket: Bucket, key: str) -> Ok | Err:
        try:
            (value,) = await bucket.get_many([key])
        except BucketError as error:
            return _failed(error)
        if value is not None:
            return Ok(IncomingValue(value))
        return Ok(None) if optional else Err(ErrorValue(KEY_NOT_FOUND))

    return get


def set_value(ctx: KeyValueContext, bucket: Bucket, key: str, outgoing: OutgoingValue) -> Written:
    return written(lambda: bucket.set_many([(key, outgoing.data)]), _failed)


def delete(ctx: KeyValueContext, bucket: Bucket, key: str) -> Written:
    return delete_many(ctx, bucket, [key])


async def exists(ctx: KeyValueContext, bucket: Bucket, key: str) -> Ok | Err:
    try:
        return Ok(await bucket.exists(key))
    except BucketError as error:
        return _failed(error)


def get_many_function(kind: FuncType) -> HostFunction:
    listed = kind.result.ok if isinstance(kind.result, ResultType) else None
    optional = isinstance(listed, ListType) and isinstance(listed.element, OptionType)

    async def get_many(ctx: KeyValueContext, bucket: Bucket, keys: list[str]) -> Ok | Err:
        try:
            values = await bucket.get_many(keys)
        except BucketError as error:
            return _failed(error)
        if not optional and None in values:
            return Err(ErrorValue(KEY_NOT_FOUND))
        return Ok([None if value is None else IncomingValue(value) for value in values])

    return get_many


def keys_function(kind: FuncType) -> HostFunction:
    """`get-keys` (G1: a plain list) and `keys` (G2: a result)."""
    fallible = isinstance(kind.result, ResultType)

    async def keys(ctx: KeyValueContext, bucket: Bucket) -> object:
        try:
            found = await all_keys(bucket)
        except BucketError as error:
            if fallible:
                return _failed(error)
            raise HostTrap(f"get-keys has no way to answer with an error: {error}") from error
        return Ok(found) if fallible else found

    return keys


async def all_keys(bucket: Bucket) -> list[str]:
    """Every key, page by page. Raises `BucketError` beyond MAX_KEYS."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = await bucket.keys(cursor, _PAGE)
        found += page
        if cursor is None:
            return found
        if len(found) >= MAX_KEYS:
            raise BucketError(f"bucket {bucket.name!r} has more than {MAX_KEYS:,} keys: they cannot be listed at once")


def set_many(ctx: KeyValueContext, bucket: Bucket, items: Sequence[tuple[str, OutgoingValue]]) -> Written:
    return written(lambda: bucket.set_many([(key, outgoing.data) for key, outgoing in items]), _failed)


def delete_many(ctx: KeyValueContext, bucket: Bucket, keys: Sequence[str]) -> Written:
    return written(lambda: bucket.delete_many(keys), _failed)


async def increment(ctx: KeyValueContext, bucket: Bucket, key: str, delta: int) -> Ok | Err:
    try:
        return Ok(await count(bucket, key, delta, unsigned=True))
    except BucketError as error:
        return _failed(error)


async def compare_and_swap(ctx: KeyValueContext, bucket: Bucket, key: str, old: int, new: int) -> Ok | Err:
    try:
        return Ok(await bucket.compare_and_swap(key, old, new))
    except BucketError as error:
        return _failed(error)


def _failed(error: BucketError) -> Err:
    return Err(ErrorValue(str(error)))
