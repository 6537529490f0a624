"""Generations 3 and 4 differ in nothing that Python sees."""

from __future__ import annotations

from types import TracebackType

from componentize_py_types import Err
from wit_world.imports import batch, store
from wit_world.imports.store import Bucket


class _Errors:
    """The interface's error as the words that the tests look for. A class, because `contextlib` sets attributes of
    the exception that passes through it, and an `Err` allows none to be set."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Err):
            match error.value:
                case store.Error_NoSuchStore():
                    raise Err("no such store") from error
                case store.Error_AccessDenied():
                    raise Err("access denied") from error
                case store.Error_Other(words):
                    raise Err(words) from error


def opened(name: str) -> Bucket:
    with _Errors():
        return store.open(name)


def get(bucket: Bucket, key: str) -> bytes | None:
    with _Errors():
        return bucket.get(key)


def put(bucket: Bucket, key: str, value: bytes) -> None:
    with _Errors():
        bucket.set(key, value)


def delete(bucket: Bucket, key: str) -> None:
    with _Errors():
        bucket.delete(key)


def exists(bucket: Bucket, key: str) -> bool:
    with _Errors():
        return bucket.exists(key)


def keys(bucket: Bucket) -> list[str]:
    found: list[str] = []
    cursor = None
    with _Errors():
        while True:
            page = bucket.list_keys(cursor)
            found += page.keys
            cursor = page.cursor
            if cursor is None:
                return found


def get_many(bucket: Bucket, wanted: list[str]) -> list[bytes | None]:
    with _Errors():
        return [None if entry is None else entry[1] for entry in batch.get_many(bucket, wanted)]


def set_many(bucket: Bucket, entries: list[tuple[str, bytes]]) -> None:
    with _Errors():
        batch.set_many(bucket, entries)


def delete_many(bucket: Bucket, unwanted: list[str]) -> None:
    with _Errors():
        batch.delete_many(bucket, unwanted)
