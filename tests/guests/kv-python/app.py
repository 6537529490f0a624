"""The tests' functions over wasi:keyvalue; `backend` is the module of one generation. See ../wit/kv.wit."""

from __future__ import annotations

import backend
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.kv import Seen

_calls = 0


def _look(bucket: backend.Bucket, key: str) -> Seen:
    keys = backend.keys(bucket)
    return Seen(
        value=backend.get(bucket, key),
        in_batch=backend.get_many(bucket, [key])[0],
        exists=backend.exists(bucket, key),
        listed=key in keys,
        keys=len(keys),
    )


class Kv(exports.Kv):
    def get(self, bucket: str, key: str) -> bytes | None:
        with backend.opened(bucket) as found:
            return backend.get(found, key)

    def set(self, bucket: str, key: str, value: bytes) -> None:
        with backend.opened(bucket) as found:
            backend.put(found, key, value)

    def delete(self, bucket: str, key: str) -> None:
        with backend.opened(bucket) as found:
            backend.delete(found, key)

    def exists(self, bucket: str, key: str) -> bool:
        with backend.opened(bucket) as found:
            return backend.exists(found, key)

    def keys(self, bucket: str) -> list[str]:
        with backend.opened(bucket) as found:
            return backend.keys(found)

    def get_many(self, bucket: str, keys: list[str]) -> list[bytes | None]:
        with backend.opened(bucket) as found:
            return backend.get_many(found, keys)

    def set_many(self, bucket: str, entries: list[tuple[str, bytes]]) -> None:
        with backend.opened(bucket) as found:
            backend.set_many(found, entries)

    def delete_many(self, bucket: str, keys: list[str]) -> None:
        with backend.opened(bucket) as found:
            backend.delete_many(found, keys)

    def rewrite(self, bucket: str, view: str, key: str, value: bytes) -> list[Seen]:
        with backend.opened(bucket) as found, backend.opened(view) as seen:
            before = _look(seen, key)
            backend.put(found, key, value)
            written = _look(seen, key)
            backend.delete(found, key)
            return [before, written, _look(seen, key)]

    def increment(self, bucket: str, key: str) -> int:
        global _calls
        with backend.opened(bucket) as found:
            text = backend.get(found, key) or b"0"
            if not text.isdigit():
                raise Err("not a number")
            number = int(text) + 1
            backend.put(found, key, str(number).encode())
        _calls += 1
        return number

    def calls(self) -> int:
        return _calls
