"""The write buffer of one invocation: later reads see earlier writes, and a gate takes them all at once. Pure.

Writes are kept by the place they go to, not by the name a guest used: two names may stand for one bucket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from perdure.durable.effects import BucketAddress, Effect, Put, Remove, Swap
from perdure.durable.policy import BucketPolicy
from perdure.keyvalue.bucket import LimitExceeded

MAX_BUFFERED = 64 << 20


Place: TypeAlias = tuple[str, BucketAddress]
"""A provider and a bucket there."""


def place_of(policy: BucketPolicy, instance: str) -> Place:
    """Where what `instance` writes to a bucket goes."""
    return policy.provider, policy.address(instance)


@dataclass(slots=True)
class Overlay:
    """Buffered writes by place; a value of None is a deletion. Bounded to MAX_BUFFERED bytes. `counted`: keys that the
    store had in a bucket when it was asked."""

    size: int = 0
    counted: dict[Place, int] = field(default_factory=dict)
    _others: list[tuple[str, Effect]] = field(default_factory=list)
    _values: dict[Place, dict[str, bytes | None]] = field(default_factory=dict)
    _ttls: dict[tuple[Place, str], int | None] = field(default_factory=dict)

    def put(self, place: Place, key: str, value: bytes | None, ttl_ms: int | None) -> None:
        self._values.setdefault(place, {})[key] = value
        self._ttls[place, key] = ttl_ms
        self.size += len(key) + len(value or b"")

    def also(self, provider: str, effect: Swap) -> None:
        """Carry out an atomic effect with the rest, after it; nobody asks for its outcome."""
        self._others.append((provider, effect))

    @property
    def empty(self) -> bool:
        return not self._values and not self._others

    def require_room(self, more: int) -> None:
        """Raises `LimitExceeded` when `more` bytes do not fit any more."""
        if self.size + more > MAX_BUFFERED:
            raise LimitExceeded(f"one invocation may write {MAX_BUFFERED:,} bytes at most")

    def load(self, provider: str) -> tuple[int, int]:
        """How many effects wait for a provider, and the bytes of their keys and values."""
        found = [entries for (name, _), entries in self._values.items() if name == provider]
        size = sum(len(key.encode()) + len(value or b"") for entries in found for key, value in entries.items())
        return sum(map(len, found)), size

    def written(self, place: Place) -> dict[str, bytes | None]:
        """What this invocation wrote to a bucket so far."""
        return self._values.get(place, {})

    def effects(self) -> dict[str, list[Effect]]:
        """All effects by provider, in the order of each key's first write."""
        found: dict[str, list[Effect]] = {}
        for (provider, address), entries in self._values.items():
            target = found.setdefault(provider, [])
            for key, value in entries.items():
                ttl = self._ttls[(provider, address), key]
                target.append(Remove(address, key) if value is None else Put(address, key, value, ttl))
        for provider, effect in self._others:
            found.setdefault(provider, []).append(effect)
        return found

    def clear(self) -> None:
        self.size = 0
        self.counted.clear()
        self._values.clear()
        self._ttls.clear()
        self._others.clear()
