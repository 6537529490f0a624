"""The names of all keys. Every part is percent-encoded, so no separator or brace of a user's name means anything.

`{namespace/worker}` is the hash tag: on a Redis Cluster a Worker's keys live in one slot and commit together. A
function names every key that it may touch, there or not: while a slot moves, the server then answers TRYAGAIN or ASK
and never takes a key that is elsewhere for a missing one.

| key | type | holds |
|---|---|---|
| `pd:{ns/wk}:i:INSTANCE` | hash | the fields that `functions/4-commits.lua` names |
| `pd:{ns/wk}:j:INSTANCE` | list | journal entries, those with outcomes as `PR`, length, outcomes, entry |
| `pd:{ns/wk}:u:INSTANCE` | set | sequences with foreign effects not yet applied |
| `pd:{ns/wk}:r:INSTANCE`, `…:rx:INSTANCE` | hash, zset | results by idempotency key, their expiry |
| `pd:{ns/wk}:p:INSTANCE` | set | base names of the instance's private buckets |
| `pd:{ns/wk}:s:INSTANCE` | list | the snapshot and its deltas |
| `pd:{ns/wk}:bl:INSTANCE`, `…:bx:INSTANCE` | hash, zset | payloads by digest; by the last sequence naming them |
| `pd:{ns/wk}:q:INSTANCE`, `…:qd:INSTANCE` | hash, zset | the inbox; its calls by due time (`functions/3-inbox.lua`) |
| `pd:{ns/wk}:instances` | zset | names of instances, score 0 |
| `pd:{ns/wk}:due` | zset | names of instances with something to do, by when (0: now) |
| `pd:{ns/wk}:cn`, `…:cb` | hash | number of instances on a component, bytes of components; by packed digest |
| `pd:{ns/wk}:id`, `…:n` | string | the store's identity; how many calls were accepted |
| `pd:{ns/wk}:f` | hash | highest foreign sequence applied and its outcomes, by origin |
| `pd:{ns}:f` | hash | the same for Namespace buckets, on a cluster only |
| `pd:{ns/wk}:h`, `…:hx` | hash, zset | hosts' URLs, their expiry |
| BASE = `pd:{ns/wk}:b:BUCKET`, `pd:{ns/wk}:o:INSTANCE:BUCKET` or `pd:{ns}:b:BUCKET` | hash | values |
| `BASE:k`, `BASE:x` | zset | keys in byte order; expiry in ms of keys with a ttl |
| `BASE:w`, `BASE:c` | hash, list | of a watched bucket: who watches; changes (`functions/1-feeds.lua`) |
| `pd:{ns/wk}:w` | set | what the Worker watches: the scope's first letter and the bucket's name |
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote, unquote

from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.records import WorkerId

INSTANCE_KEYS = 14
BUCKET_KEYS = 5
_Name = TypeVar("_Name")
_REMEMBERED = 10_000
_SHA256 = "sha256:"
_PARTS = ("i", "j", "u", "r", "rx", "p", None, "s", "bl", "bx", "q", "qd")


def encode(text: str) -> str:
    """Letters, digits, `_ . - ~` stay; everything else is percent-encoded."""
    return quote(text, safe="")


@lru_cache(maxsize=256)
def pack_digest(digest: str) -> bytes:
    """A component's digest as it is kept: `sha256:` and 64 hex digits as 32 bytes, anything else as it is. A field over
    64 bytes would make Redis keep an instance's hash in a form three times as large (hash-max-listpack-value)."""
    if digest.startswith(_SHA256) and len(digest) == len(_SHA256) + 64:
        try:
            packed = bytes.fromhex(digest[len(_SHA256) :])
        except ValueError:
            return digest.encode()
        if unpack_digest(packed) == digest:
            return packed
    return digest.encode()


def unpack_digest(packed: bytes) -> str:
    """The reverse."""
    return _SHA256 + packed.hex() if len(packed) == 32 else packed.decode()


class Keys:
    """Key names of one Worker. Remembers the last few thousand, since each operation asks for them."""

    def __init__(self, worker: WorkerId) -> None:
        namespace = encode(worker.namespace)
        self.prefix = f"pd:{{{namespace}/{encode(worker.name)}}}:"
        self.namespace_prefix = f"pd:{{{namespace}}}:"
        self.names = self._own("instances")
        self.due = self._own("due")
        self.used_components = self._own("cn")
        self.components = self._own("cb")
        self.identity = self._own("id")
        self.accepted = self._own("n")
        self.foreign = self._own("f")
        self.shared_foreign = (self.namespace_prefix + "f").encode()
        self.watched = self._own("w")
        self.hosts = [self._own("h"), self._own("hx")]
        self._instances: dict[str, list[bytes]] = {}
        self._buckets: dict[BucketAddress, list[bytes]] = {}

    def instance(self, name: str) -> list[bytes]:
        """The keys of an instance in the order of `functions/1-base.lua`."""
        found = self._instances.get(name)
        if found is None:
            encoded = encode(name)
            parts = [self.names if kind is None else self._own(f"{kind}:{encoded}") for kind in _PARTS]
            found = [*parts, self.due, self.used_components]
            _remember(self._instances, name, found)
        return found

    def instance_of(self, key: bytes) -> str:
        """The instance whose first key this is."""
        return unquote(key.decode().removeprefix(f"{self.prefix}i:"))

    def blobs(self, name: str) -> bytes:
        return self.instance(name)[8]

    def private(self, name: str) -> bytes:
        """The set of an instance's private buckets."""
        return self.instance(name)[5]

    def bucket(self, address: BucketAddress) -> list[bytes]:
        """Values, key index, expiry, watches, changes."""
        found = self._buckets.get(address)
        if found is None:
            name = encode(address.name)
            if address.scope is Scope.NAMESPACE:
                base = f"{self.namespace_prefix}b:{name}"
            elif address.instance is not None:
                base = f"{self.prefix}o:{encode(address.instance)}:{name}"
            else:
                base = f"{self.prefix}b:{name}"
            found = bucket_of(base.encode())
            _remember(self._buckets, address, found)
        return found

    def _own(self, name: str) -> bytes:
        return (self.prefix + name).encode()


def bucket_of(base: bytes) -> list[bytes]:
    """The keys of the bucket with this base name."""
    return [base, base + b":k", base + b":x", base + b":w", base + b":c"]


def _remember(cache: dict[_Name, list[bytes]], name: _Name, keys: list[bytes]) -> None:
    if len(cache) >= _REMEMBERED:
        cache.clear()
    cache[name] = keys
