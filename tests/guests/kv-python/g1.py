"""Generation 1: a missing key is an error, and one of them fails a whole batch."""

from __future__ import annotations

from componentize_py_types import Err
from legacy import Bucket, Errors, Outgoing, body, opened
from wit_world.imports import batch, readwrite

__all__ = ["Bucket", "opened"]
_MISSING = "Key not found"


def get(bucket: Bucket, key: str) -> bytes | None:
    try:
        with Errors():
            return body(readwrite.get(bucket, key))
    except Err as error:
        if error.value == _MISSING:
            return None
        raise


def put(bucket: Bucket, key: str, value: bytes) -> None:
    with Errors(), Outgoing(value) as (one,):
        readwrite.set(bucket, key, one)


def delete(bucket: Bucket, key: str) -> None:
    with Errors():
        readwrite.delete(bucket, key)


def exists(bucket: Bucket, key: str) -> bool:
    with Errors():
        return readwrite.exists(bucket, key)


def keys(bucket: Bucket) -> list[str]:
    return batch.get_keys(bucket)


def get_many(bucket: Bucket, wanted: list[str]) -> list[bytes | None]:
    try:
        with Errors():
            return [body(value) for value in batch.get_many(bucket, wanted)]
    except Err as error:
        if error.value == _MISSING:
            return [get(bucket, key) for key in wanted]
        raise


def set_many(bucket: Bucket, entries: list[tuple[str, bytes]]) -> None:
    with Errors(), Outgoing(*(value for _, value in entries)) as made:
        batch.set_many(bucket, [(key, one) for (key, _), one in zip(entries, made, strict=True)])


def delete_many(bucket: Bucket, unwanted: list[str]) -> None:
    with Errors():
        batch.delete_many(bucket, unwanted)
