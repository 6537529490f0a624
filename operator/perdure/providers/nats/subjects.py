"""The names of all subjects. A subject's tokens hold few characters, and a line of the protocol 4,096: names of
Workers, buckets and instances go in as hashes, a key as base64 in an alphabet whose order is that of its bytes.

Behind `$KV.BUCKET.`, where `w…` is of a Worker and `n…` of a namespace:

| subject | holds |
|---|---|
| `w….b….kKEY`, `n….b….kKEY` | a value of a bucket |
| `w….a….n`, `n….a….n` | nothing: a key was added to a bucket under a bound, `maxKeys` |
| `w….f….m` | the highest sequence applied of an origin, and its outcomes |
| `w….p` | never anything: whether it may be written is asked for |

A value's end is in its header `Perdure-Expires`, in ms since 1970; `Nats-TTL` clears it away later. A deletion leaves
the marker that key-value clients know (`KV-Operation: DEL`), which goes after a while.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.records import WorkerId

_STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_ORDERED = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_TO = bytes.maketrans(_STANDARD, _ORDERED)
_FROM = bytes.maketrans(_ORDERED, _STANDARD)


def encode(data: bytes) -> str:
    """Base64 without padding; of two texts the one whose bytes come first comes first."""
    return base64.b64encode(data).rstrip(b"=").translate(_TO).decode("ascii")


def decode(text: str) -> bytes:
    """The reverse."""
    data = text.encode("ascii").translate(_FROM)
    return base64.b64decode(data + b"=" * (-len(data) % 4))


@lru_cache(maxsize=10_000)
def hashed(*parts: str) -> str:
    """A token that tells these names from all others."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(b"%d:" % len(data) + data)
    return encode(digest.digest())


class Subjects:
    """Subjects of one Worker."""

    def __init__(self, bucket: str, worker: WorkerId) -> None:
        self.stream = f"KV_{bucket}"
        self.all = f"$KV.{bucket}.>"
        self._worker = f"$KV.{bucket}.w{hashed(worker.namespace, worker.name)}"
        self._namespace = f"$KV.{bucket}.n{hashed(worker.namespace)}"
        self.worker = f"{self._worker}.>"
        self.probe = f"{self._worker}.p"

    def mark(self, origin: str) -> str:
        """The dedup record of an origin."""
        return f"{self._worker}.f{hashed(origin)}.m"

    def note(self, address: BucketAddress) -> str:
        """The subject that everybody writes who may add keys to the bucket under a bound."""
        owner, _, bucket = self.bucket(address).rpartition(".b")
        return f"{owner}.a{bucket}.n"

    def bucket(self, address: BucketAddress) -> str:
        """What the subjects of a bucket begin with."""
        if address.scope is Scope.NAMESPACE:
            return f"{self._namespace}.b{hashed(address.name)}"
        names = (address.name,) if address.instance is None else (address.name, address.instance)
        return f"{self._worker}.b{hashed(address.scope.value, *names)}"

    def key(self, address: BucketAddress, key: str) -> str:
        return f"{self.bucket(address)}.k{encode(key.encode())}"


def key_of(subject: str) -> str:
    """The bucket's key that a subject stands for."""
    return decode(subject.rpartition(".")[2][1:]).decode()
