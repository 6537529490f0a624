"""The write buffer of one invocation: later reads see earlier writes, and a gate takes them all at once. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.durable.policy import BucketPolicy
from perdure.durable.store import Effect, Put, Remove
from perdure.keyvalue.bucket import LimitExceeded

MAX_BUFFERED = 64 << 20


@dataclass(slots=True)
class Overlay:
    """Buffered writes by bucket; a value of None is a deletion. Bounded to MAX_BUFFERED bytes."""

    size: int = 0
    _buckets: dict[str, dict[str, bytes | None]] = field(default_factory=dict)
    _policies: dict[str, BucketPolicy] = field(default_factory=dict)

    def put(self, policy: BucketPolicy, key: str, value: bytes | None) -> None:
        self._policies[policy.name] = policy
        self._buckets.setdefault(policy.name, {})[key] = value
        self.size += len(key) + len(value or b"")

    def require_room(self, more: int) -> None:
        """Raises `LimitExceeded` when `more` bytes do not fit any more."""
        if self.size + more > MAX_BUFFERED:
            raise LimitExceeded(f"one invocation may write {MAX_BUFFERED:,} bytes at most")

    def written(self, bucket: str) -> dict[str, bytes | None]:
        """What this invocation wrote to a bucket so far."""
        return self._buckets.get(bucket, {})

    def effects(self, instance: str) -> dict[str, list[Effect]]:
        """All effects by provider, in the order of each key's first write."""
        found: dict[str, list[Effect]] = {}
        for name, entries in self._buckets.items():
            policy = self._policies[name]
            address = policy.address(instance)
            target = found.setdefault(policy.provider, [])
            for key, value in entries.items():
                target.append(Remove(address, key) if value is None else Put(address, key, value, policy.ttl_ms))
        return found

    def clear(self) -> None:
        self.size = 0
        self._buckets.clear()
        self._policies.clear()
