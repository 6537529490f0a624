"""Generations G3 and G4: `store` and `batch`, with values as plain bytes and errors as a variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perdure.component.host import HostFunction
from perdure.component.types import Err, FuncType, Ok, OptionType, PrimType, RecordType, ResultType, Variant
from perdure.keyvalue.bucket import AccessDenied, Bucket, BucketError, KeyValueContext, NoSuchBucket
from perdure.keyvalue.writes import Written, count, written

_PAGE = 1000
_KEPT_CURSORS = 64


@dataclass(slots=True)
class OpenBucket:
    """The resource `bucket`. `cursors`: the keys that G3's latest numeric cursors stand for; `forgotten`: how many came
    before them. Each may be a long key, and a bucket has any number of pages."""

    bucket: Bucket
    cursors: list[str] = field(default_factory=list)
    forgotten: int = 0

    def number(self, key: str) -> int:
        """A new cursor."""
        self.cursors.append(key)
        more = len(self.cursors) - _KEPT_CURSORS
        if more > 0:
            del self.cursors[:more]
            self.forgotten += more
        return self.forgotten + len(self.cursors)

    def key(self, number: int) -> str:
        """What a cursor stands for. Raises BucketError."""
        at = number - self.forgotten - 1
        if at >= len(self.cursors):
            raise BucketError(f"{number} is not a cursor that this bucket handle gave")
        if at < 0:
            raise BucketError(f"{number} is a cursor from more than {_KEPT_CURSORS} pages ago: list from the beginning")
        return self.cursors[at]


def open_store(ctx: KeyValueContext, name: str) -> Ok | Err:
    try:
        return Ok(OpenBucket(ctx.keyvalue.open(name)))
    except BucketError as error:
        return failed(error)


async def get(ctx: KeyValueContext, opened: OpenBucket, key: str) -> Ok | Err:
    try:
        (value,) = await opened.bucket.get_many([key])
        return Ok(value)
    except BucketError as error:
        return failed(error)


def set_value(ctx: KeyValueContext, opened: OpenBucket, key: str, value: bytes) -> Written:
    return set_many(ctx, opened, [(key, value)])


def delete(ctx: KeyValueContext, opened: OpenBucket, key: str) -> Written:
    return delete_many(ctx, opened, [key])


async def exists(ctx: KeyValueContext, opened: OpenBucket, key: str) -> Ok | Err:
    try:
        return Ok(await opened.bucket.exists(key))
    except BucketError as error:
        return failed(error)


def list_keys_function(kind: FuncType) -> HostFunction:
    """`list-keys`: G3's cursor is a number, G4's a string; the type says which."""
    numeric = isinstance(kind.params[1][1], OptionType) and kind.params[1][1].some == PrimType("u64")
    assert isinstance(kind.result, ResultType) and isinstance(kind.result.ok, RecordType)

    async def list_keys(ctx: KeyValueContext, opened: OpenBucket, cursor: object) -> Ok | Err:
        try:
            after = _text_cursor(opened, cursor) if numeric else cursor
            assert after is None or isinstance(after, str)
            keys, following = await opened.bucket.keys(after, _PAGE)
        except BucketError as error:
            return failed(error)
        token: object = following
        if numeric and following is not None:
            token = opened.number(following)
        return Ok({"keys": keys, "cursor": token})

    return list_keys


def _text_cursor(opened: OpenBucket, cursor: object) -> str | None:
    if cursor is None or cursor == 0:
        return None
    assert isinstance(cursor, int)
    return opened.key(cursor)


async def get_many(ctx: KeyValueContext, opened: OpenBucket, keys: list[str]) -> Ok | Err:
    try:
        values = await opened.bucket.get_many(keys)
    except BucketError as error:
        return failed(error)
    return Ok([None if value is None else (key, value) for key, value in zip(keys, values, strict=True)])


def set_many(ctx: KeyValueContext, opened: OpenBucket, items: Sequence[tuple[str, bytes]]) -> Written:
    return written(lambda: opened.bucket.set_many(items), failed)


def delete_many(ctx: KeyValueContext, opened: OpenBucket, keys: Sequence[str]) -> Written:
    return written(lambda: opened.bucket.delete_many(keys), failed)


def increment_function(kind: FuncType) -> HostFunction:
    """`increment`: G3's counters have no sign, G4's have one; the type says which."""
    unsigned = kind.params[2][1] == PrimType("u64")

    async def increment(ctx: KeyValueContext, opened: OpenBucket, key: str, delta: int) -> Ok | Err:
        try:
            return Ok(await count(opened.bucket, key, delta, unsigned=unsigned))
        except BucketError as error:
            return failed(error)

    return increment


def failed(error: BucketError) -> Err:
    """The interface's own `error`."""
    if isinstance(error, NoSuchBucket):
        return Err(Variant("no-such-store"))
    if isinstance(error, AccessDenied):
        return Err(Variant("access-denied"))
    return Err(Variant("other", str(error)))
