"""A counter as a durable Worker in Python, over `wasi:keyvalue@0.2.0-draft`.

The total is kept in a bucket. What is kept in plain Python objects is as durable: when a host dies, the next one
finds them as the last answered call left them. The bucket is private to each instance (`scope: Instance` in the
manifests), so reading, adding and writing back never meets another writer.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import store

BUCKET = "counters"
KEY = "total"
LARGEST = 2**64 - 1  # what a u64 holds

_calls = 0
_recent: deque[int] = deque(maxlen=10)


class Counter(exports.Counter):
    """The exported interface. An object of it lives for one call; what is to last belongs to the module."""

    def add(self, n: int) -> int:
        global _calls
        with _counters() as bucket:
            total = _read(bucket) + n
            if total > LARGEST:
                raise Err(f"{total} is more than a total may be ({LARGEST})")
            bucket.set(KEY, str(total).encode())
        _calls += 1
        _recent.appendleft(n)
        return total

    def total(self) -> int:
        with _counters() as bucket:
            return _read(bucket)

    def reset(self) -> None:
        with _counters() as bucket:
            bucket.delete(KEY)

    def calls(self) -> int:
        return _calls

    def recent(self) -> list[int]:
        return list(_recent)


@contextmanager
def _counters() -> Iterator[store.Bucket]:
    """The open bucket. `Err` is how a function of WIT's `result` fails; any other exception is a trap, after which
    neither bucket nor memory has changed."""
    try:
        with store.open(BUCKET) as bucket:
            yield bucket
    except Err as error:
        raise Err(_words(error.value)) from None


def _read(bucket: store.Bucket) -> int:
    value = bucket.get(KEY)
    return 0 if value is None else int(value)


def _words(error: store.Error | str) -> str:
    match error:
        case store.Error_NoSuchStore():
            return f"the Worker's manifest has no bucket {BUCKET!r}"
        case store.Error_AccessDenied():
            return f"the Worker may not write to the bucket {BUCKET!r}"
        case store.Error_Other(words):
            return words
        case words:
            return words
