"""What effects come to, for a provider whose server compares and writes but cannot compute. Pure.

The provider reads what `looked_at` names, asks `plan` what to write, and writes it on the condition that nothing that
was read has changed. Each key is written once at most, with what the last effect on it leaves there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

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
    fits,
    keys_of,
)


@dataclass(frozen=True, slots=True)
class Held:
    """A value. `expires_ms`: from which moment on it is gone, in ms since 1970; None: it stays."""

    data: bytes
    expires_ms: int | None = None

    def live(self, now_ms: int) -> bool:
        return self.expires_ms is None or self.expires_ms > now_ms


Spot: TypeAlias = tuple[BucketAddress, str]
"""A key of a bucket."""


@dataclass(frozen=True, slots=True)
class Planned:
    """`writes`: None is a deletion. `outcomes`: of the atomic effects, in their order."""

    writes: dict[Spot, Held | None]
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class Room:
    """What an effect with `max_keys` stands on. `count`: live keys in its bucket; `present`: which of them the effects
    touch. `revision`: of the bucket's note, which everybody changes who may add keys under a bound."""

    count: int
    present: Collection[str]
    revision: int = 0


def looked_at(effects: Iterable[Effect]) -> list[Spot]:
    """The keys whose present value decides what the effects come to: the first effect on them is an increment or a
    swap. What a `Fill` replaces does not matter to it; how many keys are there is in the `Room`."""
    first: dict[Spot, Effect] = {}
    for effect in effects:
        for key in keys_of(effect):
            first.setdefault((effect.bucket, key), effect)
    return [spot for spot, effect in first.items() if isinstance(effect, (Increment, Swap))]


def touched(effects: Iterable[Effect], bucket: BucketAddress) -> list[str]:
    """The keys that effects may change in a bucket."""
    return list(dict.fromkeys(key for effect in effects if effect.bucket == bucket for key in keys_of(effect)))


def plan(effects: Sequence[Effect], held: Mapping[Spot, Held | None], now_ms: int, room: Room | None = None) -> Planned:
    """`held`: what is at the keys that `looked_at` names; expired values may be among it. `room`: for the last effect,
    where it has `max_keys`."""
    writes: dict[Spot, Held | None] = {}
    outcomes: list[Outcome] = []
    for effect in effects:
        if isinstance(effect, Fill):
            if _full(effect, writes, room):
                outcomes.append(_FULL)
                continue
            until = _expires(now_ms, effect.ttl_ms)
            writes |= {(effect.bucket, key): Held(value, until) for key, value in effect.items}
            outcomes.append(Swapped())
            continue
        spot = effect.bucket, effect.key
        present = writes[spot] if spot in writes else held.get(spot)
        if present is not None and not present.live(now_ms):
            present = None
        match effect:
            case Put(_, _, value, ttl_ms):
                writes[spot] = Held(value, _expires(now_ms, ttl_ms))
            case Remove():
                writes[spot] = None
            case Increment(delta=delta, ttl_ms=ttl_ms):
                outcome = counted(present.data if present else None, delta)
                if present is None and _full(effect, writes, room):
                    outcome = _FULL
                if isinstance(outcome, Counted):
                    until = present.expires_ms if present else _expires(now_ms, ttl_ms)
                    writes[spot] = Held(b"%d" % outcome.value, until)
                outcomes.append(outcome)
            case Swap(expected=expected, value=value, ttl_ms=ttl_ms):
                current = present.data if present else None
                if current != expected:
                    outcomes.append(Conflict(current))
                elif present is None and _full(effect, writes, room):
                    outcomes.append(_FULL)
                else:
                    writes[spot] = Held(value, _expires(now_ms, ttl_ms))
                    outcomes.append(Swapped())
    return Planned(writes, outcomes)


_FULL = Refused("full")


def _full(effect: Bounded, writes: Mapping[Spot, Held | None], room: Room | None) -> bool:
    """Whether its keys that are missing are more than the bucket has room for, after `writes`."""
    if effect.max_keys is None or room is None:
        return False
    written = [(key, held) for (bucket, key), held in writes.items() if bucket == effect.bucket]
    return not fits(keys_of(effect), effect.max_keys, room.count, room.present, written)


def _expires(now_ms: int, ttl_ms: int | None) -> int | None:
    return None if ttl_ms is None else now_ms + ttl_ms
