"""The names of all keys. Every part is percent-encoded, so no separator or brace of a user's name means anything.

`{namespace/worker}` is the hash tag: on a Redis Cluster a Worker's keys live in one slot and commit together.

| key | type | holds |
|---|---|---|
| `pd:{ns/wk}:i:INSTANCE` | hash | e epoch, n nonce, h host, s sequence, l life |
| `pd:{ns/wk}:j:INSTANCE` | list | journal entries |
| `pd:{ns/wk}:u:INSTANCE` | set | sequences with foreign effects not yet applied |
| `pd:{ns/wk}:r:INSTANCE`, `…:rx:INSTANCE` | hash, zset | results by idempotency key, their expiry |
| `pd:{ns/wk}:p:INSTANCE` | set | base names of the instance's private buckets |
| `pd:{ns/wk}:instances` | zset | names of instances, score 0 |
| `pd:{ns/wk}:f` | hash | highest foreign sequence applied, by origin |
| `pd:{ns/wk}:h`, `…:hx` | hash, zset | hosts' URLs, their expiry |
| BASE = `pd:{ns/wk}:b:BUCKET`, `pd:{ns/wk}:o:INSTANCE:BUCKET` or `pd:{ns}:b:BUCKET` | hash | values |
| `BASE:k`, `BASE:x` | zset | keys in byte order; expiry in ms of keys with a ttl |
"""

from __future__ import annotations

from urllib.parse import quote

from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.records import WorkerId


def encode(text: str) -> str:
    """Letters, digits, `_ . - ~` stay; everything else is percent-encoded."""
    return quote(text, safe="")


class Keys:
    """Key names of one Worker."""

    def __init__(self, worker: WorkerId) -> None:
        namespace = encode(worker.namespace)
        self.prefix = f"pd:{{{namespace}/{encode(worker.name)}}}:"
        self._namespace = f"pd:{{{namespace}}}:"
        self.instances = self.prefix + "instances"
        self.foreign = self.prefix + "f"
        self.hosts = [self.prefix + "h", self.prefix + "hx"]

    def instance(self, name: str) -> list[str]:
        """Token, journal, unapplied, results, their expiry, private buckets, index: in the order Lua expects."""
        encoded = encode(name)
        parts = [f"{self.prefix}{kind}:{encoded}" for kind in ("i", "j", "u", "r", "rx", "p")]
        return [*parts, self.instances]

    def bucket(self, address: BucketAddress) -> list[str]:
        """Values, key index, expiry."""
        name = encode(address.name)
        if address.scope is Scope.NAMESPACE:
            base = f"{self._namespace}b:{name}"
        elif address.instance is not None:
            base = f"{self.prefix}o:{encode(address.instance)}:{name}"
        else:
            base = f"{self.prefix}b:{name}"
        return [base, base + ":k", base + ":x"]
