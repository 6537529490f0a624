"""The names of all keys. A key of a bucket comes last, as it is, so that etcd's order is the bucket's.

Every other part is percent-encoded, so no separator of a user's name means anything; one that is long is named by its
hash, so that the length of a key has a bound. Behind the configured prefix:

| key | holds |
|---|---|
| `w/NAMESPACE/WORKER/b/BUCKET/KEY` | a value of a Worker's bucket |
| `w/NAMESPACE/WORKER/i/INSTANCE/BUCKET/KEY` | a value of an instance's bucket |
| `w/NAMESPACE/WORKER/f/ORIGIN` | the highest sequence applied, and its outcomes |
| `w/NAMESPACE/WORKER/p` | nothing: whether it may be written is asked for |
| `w/NAMESPACE/WORKER/t` | nothing: some value of the Worker has, or had, an end |
| `w/NAMESPACE/WORKER/a/b/BUCKET`, `…/a/i/INSTANCE/BUCKET` | nothing: a key was added under a bound, `maxKeys` |
| `n/NAMESPACE/BUCKET/KEY` | a value of a Namespace's bucket |
| `a/NAMESPACE/BUCKET` | nothing: as `…/a/b/BUCKET` |
| `t/NAMESPACE` | nothing: some value of the Namespace's buckets has, or had, an end |

A value is `0` and the bytes, or `1`, the ms since 1970 from which on it is gone (u64, big-endian), and the bytes.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from urllib.parse import quote

from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.planning import Held
from perdure.durable.records import WorkerId
from perdure.errors import InternalError

_LONGEST = 120
LONGEST_BASE = 128 + 4 * _LONGEST + 16
"""Bytes of a key before the bucket's own, with the longest prefix."""
_EXPIRY = struct.Struct(">Q")


@lru_cache(maxsize=10_000)
def encode(text: str) -> str:
    """Letters, digits, `_ . - ~` stay; everything else is percent-encoded. `%~` begins a hash, and nothing else."""
    encoded = quote(text, safe="")
    return encoded if len(encoded) <= _LONGEST else f"%~{hashlib.sha256(text.encode()).hexdigest()}"


class Keys:
    """Key names of one Worker."""

    def __init__(self, prefix: str, worker: WorkerId) -> None:
        namespace = encode(worker.namespace)
        self.worker = f"{prefix}w/{namespace}/{encode(worker.name)}/".encode()
        self._namespace = f"{prefix}n/{namespace}/".encode()
        self.probe = self.worker + b"p"
        self._ends = self.worker + b"t"
        self._namespace_ends = f"{prefix}t/{namespace}".encode()
        self._namespace_note = f"{prefix}a/{namespace}/".encode()

    def mark(self, origin: str) -> bytes:
        """The dedup record of an origin."""
        return self.worker + f"f/{encode(origin)}".encode()

    def bucket(self, address: BucketAddress) -> bytes:
        """What the keys of a bucket begin with."""
        name = encode(address.name)
        if address.scope is Scope.NAMESPACE:
            return self._namespace + f"{name}/".encode()
        if address.instance is not None:
            return self.worker + f"i/{encode(address.instance)}/{name}/".encode()
        return self.worker + f"b/{name}/".encode()

    def note(self, address: BucketAddress) -> bytes:
        """The key that everybody writes who may add keys to the bucket under a bound."""
        if address.scope is Scope.NAMESPACE:
            return self._namespace_note + encode(address.name).encode()
        return self.worker + b"a/" + self.bucket(address)[len(self.worker) : -1]

    def ends(self, address: BucketAddress) -> bytes:
        """The key that is there if some value of the bucket may have an end: without it a list of keys needs no look at
        the values."""
        return self._namespace_ends if address.scope is Scope.NAMESPACE else self._ends


def after(prefix: bytes) -> bytes:
    """The end of the range of what begins with `prefix`, which ends with a slash."""
    return prefix[:-1] + b"0"


def pack(held: Held) -> bytes:
    """A value as it is stored."""
    if held.expires_ms is None:
        return b"0" + held.data
    return b"1" + _EXPIRY.pack(held.expires_ms) + held.data


def unpack(data: bytes) -> Held:
    """The reverse. Raises `InternalError` for what was not written by us."""
    if data[:1] == b"0":
        return Held(data[1:])
    if data[:1] == b"1" and len(data) > _EXPIRY.size:
        return Held(data[1 + _EXPIRY.size :], _EXPIRY.unpack_from(data, 1)[0])
    raise InternalError("etcd holds a value under Perdure's prefix that Perdure did not write")
