"""The Redis store's buckets, and effects as `functions/2-buckets.lua` takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

from perdure.durable.effects import COUNTER_MAX, BucketAddress, Effect, Fill, Increment, Put, Remove, Scope, Swap
from perdure.durable.records import Committed, ForeignApply, KeyPage
from perdure.errors import InternalError
from perdure.providers.redis.base import Base
from perdure.providers.redis.connection import Argument
from perdure.providers.redis.keys import BUCKET_KEYS, Keys

_READ = 1000
# From no 64-bit number does adding this give a 64-bit number.
_BEYOND = 1 << 64


@dataclass(slots=True)
class PackedEffects:
    """`keys`: of the buckets, each its own, then the sets of private buckets. `private`: which belongs where."""

    buckets: list[BucketAddress] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    private: str = ""
    args: list[Argument] = field(default_factory=list)


class Buckets(Base):
    """Implements `BucketStore`."""

    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        client, marks = self._client, self._keys.foreign
        if not self.namespace_is_home and _on_namespace(apply.effects):
            client, marks = self._shared, self._keys.shared_foreign
            if not all(effect.bucket.scope is Scope.NAMESPACE for effect in apply.effects):
                raise InternalError("on a Redis Cluster, Namespace buckets are not changed together with others")
        effects = pack_effects(self._keys, apply.effects, 1)
        reply = await client.call(
            "foreign",
            [marks, *effects.keys],
            apply.origin,
            apply.sequence,
            len(effects.buckets),
            effects.private,
            "" if apply.instance is None else self._keys.instance(apply.instance)[0],
            *effects.args,
        )
        return self._committed(reply, apply.sequence, apply.origin, effects.buckets)

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for start in range(0, len(keys), _READ):
            some = keys[start : start + _READ]
            found += cast("list[bytes | None]", await self._of(bucket).call("read", self._keys.bucket(bucket), *some))
        return found

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        start = "-" if cursor is None else f"({cursor}"
        reply = await self._of(bucket).call("list", self._keys.bucket(bucket), start, limit)
        names, more = cast("tuple[list[bytes], int]", reply)
        decoded = [name.decode() for name in names]
        return KeyPage(decoded, decoded[-1] if more else None)

    async def count(self, bucket: BucketAddress) -> int:
        return cast("int", await self._of(bucket).call("count", self._keys.bucket(bucket)))

    def _require_home(self, effects: Iterable[Effect]) -> None:
        """A commit is atomic within one slot only."""
        if not self.namespace_is_home and _on_namespace(effects):
            raise InternalError("on a Redis Cluster, effects on Namespace buckets are applied as foreign ones")


def _on_namespace(effects: Iterable[Effect]) -> bool:
    return any(effect.bucket.scope is Scope.NAMESPACE for effect in effects)


def pack_effects(keys: Keys, effects: Iterable[Effect], offset: int) -> PackedEffects:
    """`offset`: the number of KEYS before the buckets'."""
    packed = PackedEffects()
    numbers: dict[BucketAddress, int] = {}
    for effect in effects:
        number = numbers.get(effect.bucket)
        if number is None:
            number = numbers[effect.bucket] = len(numbers) + 1
            packed.keys += keys.bucket(effect.bucket)
        packed.args += _pack(effect, number)
    packed.buckets = list(numbers)
    private: list[str] = []
    for bucket, number in numbers.items():
        if bucket.instance is not None:
            packed.keys.append(keys.private(bucket.instance))
            private.append(f"{offset + BUCKET_KEYS * (number - 1) + 1} {offset + len(packed.keys)}")
    packed.private = " ".join(private)
    return packed


def _pack(effect: Effect, number: int) -> list[Argument]:
    match effect:
        case Put(_, key, value, ttl_ms):
            return ["P", number, key, value, _ttl(ttl_ms)]
        case Remove(_, key):
            return ["R", number, key, "", ""]
        case Increment(_, key, delta, ttl_ms, max_keys):
            return [*_bound(number, max_keys), "I", number, key, _deltas(delta), _ttl(ttl_ms)]
        case Swap(_, key, None, value, ttl_ms, max_keys):
            return [*_bound(number, max_keys), "N", number, key, value, _ttl(ttl_ms)]
        case Swap(_, key, expected, value, ttl_ms):
            assert expected is not None
            return ["S", number, key, value, _ttl(ttl_ms), expected]
        case Fill(_, items, max_keys, ttl_ms):
            flat: list[Argument] = [part for item in items for part in item]
            return [*_bound(number, max_keys), "F", number, len(items), "", _ttl(ttl_ms), *flat]


def _bound(number: int, max_keys: int | None) -> list[Argument]:
    """Goes before the effect that it is a bound for."""
    return [] if max_keys is None else ["M", number, max_keys, "", ""]


def _ttl(ttl_ms: int | None) -> Argument:
    return "" if ttl_ms is None else ttl_ms


def _deltas(delta: int) -> str:
    """Redis adds 64-bit numbers: a larger one in steps, one that always overflows as one that does."""
    delta = max(-_BEYOND, min(delta, _BEYOND))
    steps = []
    while abs(delta) > COUNTER_MAX:
        step = COUNTER_MAX if delta > 0 else -COUNTER_MAX
        steps.append(step)
        delta -= step
    return " ".join(map(str, [*steps, delta]))
