"""Effects as arguments of the functions: parallel arrays, sorted by (bucket, key), so that commits which share a bucket
take the locks of its entries in one order. Effects of one key stay in their order; those of different keys commute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perdure.durable.effects import BucketAddress, Effect, Fill, Increment, Put, Remove, Scope, Swap, bounded
from perdure.durable.records import WorkerId
from perdure.errors import TooLarge

MAX_KEY = 2600
"""Bytes of a key: what PostgreSQL's index takes, whatever the key is made of."""
LONGEST = 1 << 61
"""A time to live of more milliseconds is as good as this one."""
_PUT, _REMOVE, _INCREMENT, _SWAP, _FILL = 1, 2, 3, 4, 5
Arguments = tuple[
    list[bytes],
    list[bytes],
    list[bytes],
    list[bytes],
    list[int],
    list[int],
    list[bytes],
    list[bytes],
    list[bytes | None],
    list[int | None],
    list[str | None],
    list[bytes | None],
    int | None,
]
NOTHING: Arguments = ([], [], [], [], [], [], [], [], [], [], [], [], None)


@dataclass(frozen=True, slots=True)
class Owner:
    """The columns that say whose a row is: `worker`, or `namespace` for a bucket that the namespace's Workers share."""

    worker: bytes
    namespace: bytes

    @classmethod
    def of(cls, worker: WorkerId) -> Owner:
        namespace = worker.namespace.encode()
        tag = b"%d:%s" % (len(namespace), namespace)
        return cls(b"w" + tag + b"/" + worker.name.encode(), b"n" + tag)

    def bucket(self, address: BucketAddress) -> tuple[bytes, bytes, bytes, bytes]:
        """A row of `buckets`: hash, owner, private, name."""
        owner = self.namespace if address.scope is Scope.NAMESPACE else self.worker
        mine, name = private(address.instance), address.name.encode()
        parts = b"".join(b"%d:%s" % (len(part), part) for part in (owner, mine, name))
        return hashlib.blake2b(parts, digest_size=16).digest(), owner, mine, name


def private(instance: str | None) -> bytes:
    """The column `private` of `buckets`."""
    return b"" if instance is None else b"i" + instance.encode()


def key_bytes(key: str) -> bytes:
    """Raises `TooLarge`."""
    data = key.encode()
    if len(data) > MAX_KEY:
        raise TooLarge(f"a key of {len(data)} bytes; PostgreSQL takes {MAX_KEY}")
    return data


def lasting(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else min(milliseconds, LONGEST)


def pack(owner: Owner, effects: Sequence[Effect]) -> Arguments:
    """From p_known to p_bound. Raises `TooLarge`."""
    if not effects:
        return NOTHING
    buckets = {address: owner.bucket(address) for address in {effect.bucket for effect in effects}}
    last = bounded(effects)
    # What has a bound comes last: whether there is room for it depends on the others.
    late = len(effects) - 1 if last is not None else len(effects)
    rows = sorted(_rows(effects, buckets), key=lambda row: (row[1] >= late, row[2:4]))
    known, owners, privates, names = (list(column) for column in zip(*sorted(buckets.values()), strict=True))
    kinds, places, ids, keys, values, ttls, deltas, expected = (list(column) for column in zip(*rows, strict=True))
    most = None if last is None else last.max_keys
    return known, owners, privates, names, kinds, places, ids, keys, values, ttls, deltas, expected, most


_Row = tuple[int, int, bytes, bytes, bytes | None, int | None, str | None, bytes | None]


def _rows(effects: Sequence[Effect], buckets: dict[BucketAddress, tuple[bytes, bytes, bytes, bytes]]) -> Iterable[_Row]:
    for place, effect in enumerate(effects):
        bucket = buckets[effect.bucket][0]
        if isinstance(effect, Fill):
            for key, value in effect.items:
                yield (_FILL, place, bucket, key_bytes(key), value, lasting(effect.ttl_ms), None, None)
            continue
        at = (bucket, key_bytes(effect.key))
        match effect:
            case Put(value=value, ttl_ms=ttl_ms):
                yield (_PUT, place, *at, value, lasting(ttl_ms), None, None)
            case Remove():
                yield (_REMOVE, place, *at, None, None, None, None)
            case Increment(delta=delta, ttl_ms=ttl_ms):
                # As text: it need not fit 64 bits.
                yield (_INCREMENT, place, *at, None, lasting(ttl_ms), str(delta), None)
            case Swap(expected=expected, value=value, ttl_ms=ttl_ms):
                yield (_SWAP, place, *at, value, lasting(ttl_ms), None, expected)
