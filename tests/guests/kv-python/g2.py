"""Generation 2: a missing key is none."""

from __future__ import annotations

from legacy import Bucket, Errors, Outgoing, body, opened
from wit_world.imports import eventual, eventual_batch

__all__ = ["Bucket", "opened"]


def get(bucket: Bucket, key: str) -> bytes | None:
    with Errors():
        found = eventual.get(bucket, key)
        return None if found is None else body(found)


def put(bucket: Bucket, key: str, value: bytes) -> None:
    with Errors(), Outgoing(value) as (one,):
        eventual.set(bucket, key, one)


def delete(bucket: Bucket, key: str) -> None:
    with Errors():
        eventual.delete(bucket, key)


def exists(bucket: Bucket, key: str) -> bool:
    with Errors():
        return eventual.exists(bucket, key)


def keys(bucket: Bucket) -> list[str]:
    with Errors():
        return eventual_batch.keys(bucket)


def get_many(bucket: Bucket, wanted: list[str]) -> list[bytes | None]:
    with Errors():
        return [None if one is None else body(one) for one in eventual_batch.get_many(bucket, wanted)]


def set_many(bucket: Bucket, entries: list[tuple[str, bytes]]) -> None:
    with Errors(), Outgoing(*(value for _, value in entries)) as made:
        eventual_batch.set_many(bucket, [(key, one) for (key, _), one in zip(entries, made, strict=True)])


def delete_many(bucket: Bucket, unwanted: list[str]) -> None:
    with Errors():
        eventual_batch.delete_many(bucket, unwanted)
