"""Generations G1 and G2: `readwrite`, `batch`, `eventual`, `eventual-batch`, `atomic`.

The two differ in what a missing key is (G1: an error that reads `Key not found`; G2: none); the function's own type
says which. Handles may come as `own` or `borrow`: the value is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.component.host import HostFunction
from perdure.component.traps import HostTrap
from perdure.component.types import Err, FuncType, ListType, Ok, OptionType, OwnType, ResultType, TupleType
from perdure.keyvalue.bucket import Bucket, BucketError, KeyValueContext
from perdure.keyvalue.values import ErrorValue, IncomingValue, OutgoingValue, failed, taken
from perdure.keyvalue.writes import Written, count, written

KEY_NOT_FOUND = "Key not found"
MAX_KEYS = 100_000
_PAGE = 1000


def open_bucket(ctx: KeyValueContext, name: str) -> Ok | Err:
    try:
        return Ok(ctx.keyvalue.open(name))
    except BucketError as error:
        return failed(error)


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
            return failed(error)
        if value is not None:
            return Ok(IncomingValue(value))
        return Ok(None) if optional else Err(ErrorValue(KEY_NOT_FOUND))

    return get


def set_function(kind: FuncType) -> HostFunction:
    given = isinstance(kind.params[2][1], OwnType)

    def set_value(ctx: KeyValueContext, bucket: Bucket, key: str, outgoing: OutgoingValue) -> Written:
        items = [(key, taken(outgoing, given=given))]
        return written(lambda: bucket.set_many(items), failed)

    return set_value


def delete(ctx: KeyValueContext, bucket: Bucket, key: str) -> Written:
    return delete_many(ctx, bucket, [key])


async def exists(ctx: KeyValueContext, bucket: Bucket, key: str) -> Ok | Err:
    try:
        return Ok(await bucket.exists(key))
    except BucketError as error:
        return failed(error)


def get_many_function(kind: FuncType) -> HostFunction:
    listed = kind.result.ok if isinstance(kind.result, ResultType) else None
    optional = isinstance(listed, ListType) and isinstance(listed.element, OptionType)

    async def get_many(ctx: KeyValueContext, bucket: Bucket, keys: list[str]) -> Ok | Err:
        try:
            values = await bucket.get_many(keys)
        except BucketError as error:
            return failed(error)
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
                return failed(error)
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


def set_many_function(kind: FuncType) -> HostFunction:
    listed = kind.params[1][1]
    given = (
        isinstance(listed, ListType)
        and isinstance(listed.element, TupleType)
        and isinstance(listed.element.items[1], OwnType)
    )

    def set_many(ctx: KeyValueContext, bucket: Bucket, pairs: Sequence[tuple[str, OutgoingValue]]) -> Written:
        items = [(key, taken(outgoing, given=given)) for key, outgoing in pairs]
        return written(lambda: bucket.set_many(items), failed)

    return set_many


def delete_many(ctx: KeyValueContext, bucket: Bucket, keys: Sequence[str]) -> Written:
    return written(lambda: bucket.delete_many(keys), failed)


async def increment(ctx: KeyValueContext, bucket: Bucket, key: str, delta: int) -> Ok | Err:
    try:
        return Ok(await count(bucket, key, delta, unsigned=True))
    except BucketError as error:
        return failed(error)


async def compare_and_swap(ctx: KeyValueContext, bucket: Bucket, key: str, old: int, new: int) -> Ok | Err:
    try:
        return Ok(await bucket.compare_and_swap(key, old, new))
    except BucketError as error:
        return failed(error)
