"""The memory store's buckets, and what effects do to them."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.durable.effects import (
    Bounded,
    BucketAddress,
    Conflict,
    Counted,
    Effect,
    Fill,
    Increment,
    Outcome,
    Put,
    Refused,
    Remove,
    Swap,
    Swapped,
    counted,
    keys_of,
)
from perdure.durable.feeds import changes_of
from perdure.durable.records import CommitStatus, Committed, ForeignApply, KeyPage
from perdure.providers.memory.feeds import Feeds, Writer, append
from perdure.providers.memory.world import Mark, Value


class Buckets(Feeds):
    """Implements `BucketStore`."""

    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        writer = None if apply.instance is None else (self._worker.name, apply.instance)
        if apply.sequence == 0:
            return Committed(CommitStatus.APPLIED, self._apply_all(apply.effects, writer))
        mark = self._data.marks.get(apply.origin)
        if mark is not None and apply.sequence <= mark.sequence:
            return Committed(CommitStatus.DUPLICATE, list(mark.outcomes) if apply.sequence == mark.sequence else [])
        outcomes = self._apply_all(apply.effects, writer)
        self._data.marks[apply.origin] = Mark(apply.sequence, outcomes)
        return Committed(CommitStatus.APPLIED, list(outcomes))

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        live = self._live(bucket)
        return [live[key].data if key in live else None for key in keys]

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        # The order of code points is that of UTF-8's bytes.
        names = sorted(key for key in self._live(bucket) if cursor is None or key > cursor)
        return KeyPage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def count(self, bucket: BucketAddress) -> int:
        return len(self._live(bucket))

    def _apply_all(self, effects: Sequence[Effect], writer: Writer) -> list[Outcome]:
        """The outcomes of the atomic ones. Raises `FeedFull`, and nothing is applied."""
        feeds = self._open_feeds(effects, writer)
        outcomes: list[Outcome] = []
        for effect in effects:
            feed = feeds.get(effect.bucket)
            was_there = feed is not None and isinstance(effect, Remove) and effect.key in self._live(effect.bucket)
            outcome = self._apply(effect)
            if outcome is not None:
                outcomes.append(outcome)
            if feed is not None:
                for key, changed in changes_of(effect, outcome, was_there=was_there):
                    append(feed, key, changed, writer)
        return outcomes

    def _apply(self, effect: Effect) -> Outcome | None:
        entries = self._entries(effect.bucket)
        now = self._world.now()
        if isinstance(effect, Fill):
            if self._full(effect):
                return Refused("full")
            entries.update((key, Value(value, _expires(now, effect.ttl_ms))) for key, value in effect.items)
            return Swapped()
        held = entries.get(effect.key)
        if held is not None and not held.live(now):
            del entries[effect.key]
            held = None
        match effect:
            case Put(_, key, value, ttl_ms):
                entries[key] = Value(value, _expires(now, ttl_ms))
                return None
            case Remove(_, key):
                entries.pop(key, None)
                return None
            case Increment(_, key, delta, ttl_ms):
                outcome = counted(held.data if held else None, delta)
                if held is None and self._full(effect):
                    return Refused("full")
                if isinstance(outcome, Counted):
                    entries[key] = Value(b"%d" % outcome.value, held.expires if held else _expires(now, ttl_ms))
                return outcome
            case Swap(_, key, expected, value, ttl_ms):
                current = held.data if held else None
                if current != expected:
                    return Conflict(current)
                if held is None and self._full(effect):
                    return Refused("full")
                entries[key] = Value(value, _expires(now, ttl_ms))
                return Swapped()

    def _full(self, effect: Bounded) -> bool:
        """Whether its keys that are missing are more than the bucket has room for."""
        if effect.max_keys is None:
            return False
        live = self._live(effect.bucket)
        new = sum(key not in live for key in keys_of(effect))
        return new > 0 and len(live) + new > effect.max_keys

    def _entries(self, bucket: BucketAddress) -> dict[str, Value]:
        buckets = self._world.buckets.setdefault(self._worker.namespace, {})
        return buckets.setdefault(self._bucket_key(bucket), {})

    def _live(self, bucket: BucketAddress) -> dict[str, Value]:
        now = self._world.now()
        return {key: value for key, value in self._entries(bucket).items() if value.live(now)}

    def _drop_buckets(self, instance: str | None) -> int:
        """Of one instance, or (None) all of the Worker. Returns the number of keys."""
        buckets = self._world.buckets.get(self._worker.namespace, {})
        private = None if instance is None else f"i{instance}"
        gone = [key for key in buckets if key[0] == self._worker.name and private in (None, key[2])]
        return sum(len(buckets.pop(key)) for key in gone)


def _expires(now: float, ttl_ms: int | None) -> float | None:
    return None if ttl_ms is None else now + ttl_ms / 1000
