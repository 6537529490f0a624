"""What effects come to, for a provider whose server compares and writes but cannot compute. Pure.

The provider reads what `looked_at` names, asks `plan` what to write, and writes it on the condition that nothing that
was read has changed. Each key is written once at most, with what the last effect on it leaves there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from perdure.durable.effects import (
    BucketAddress,
    Conflict,
    Counted,
    Effect,
    Increment,
    Outcome,
    Put,
    Remove,
    Swap,
    Swapped,
    counted,
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


def looked_at(effects: Iterable[Effect]) -> list[Spot]:
    """The keys whose present value decides what the effects come to: the first effect on them is an atomic one."""
    first: dict[Spot, Effect] = {}
    for effect in effects:
        first.setdefault((effect.bucket, effect.key), effect)
    return [spot for spot, effect in first.items() if isinstance(effect, (Increment, Swap))]


def plan(effects: Sequence[Effect], held: Mapping[Spot, Held | None], now_ms: int) -> Planned:
    """`held`: what is at the keys that `looked_at` names; expired values may be among it."""
    writes: dict[Spot, Held | None] = {}
    outcomes: list[Outcome] = []
    for effect in effects:
        spot = effect.bucket, effect.key
        present = writes[spot] if spot in writes else held.get(spot)
        if present is not None and not present.live(now_ms):
            present = None
        match effect:
            case Put(_, _, value, ttl_ms):
                writes[spot] = Held(value, _expires(now_ms, ttl_ms))
            case Remove():
                writes[spot] = None
            case Increment(_, _, delta, ttl_ms):
                outcome = counted(present.data if present else None, delta)
                if isinstance(outcome, Counted):
                    until = present.expires_ms if present else _expires(now_ms, ttl_ms)
                    writes[spot] = Held(b"%d" % outcome.value, until)
                outcomes.append(outcome)
            case Swap(_, _, expected, value, ttl_ms):
                current = present.data if present else None
                if current != expected:
                    outcomes.append(Conflict(current))
                else:
                    writes[spot] = Held(value, _expires(now_ms, ttl_ms))
                    outcomes.append(Swapped())
    return Planned(writes, outcomes)


def _expires(now_ms: int, ttl_ms: int | None) -> int | None:
    return None if ttl_ms is None else now_ms + ttl_ms
