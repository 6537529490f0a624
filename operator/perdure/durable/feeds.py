"""The feeds of watched buckets: what changed, in the order of the commits, until those who watch have been told. Pure.

A bucket has a feed while a Worker watches it. Each change is appended in the transaction that makes it and gets the
next number. A Worker watches a bucket once, for one of its instances, and has reached a place in the feed; what all
have passed is dropped. What that instance changes itself is none of its news.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.durable.effects import BucketAddress, Counted, Effect, Fill, Increment, Outcome, Put, Remove, Swap, Swapped
from perdure.errors import FeedFull

PAGE_BYTES = 4 << 20
"""A page of changes ends with the one that reaches so many bytes."""


@dataclass(frozen=True, slots=True)
class FeedBounds:
    """A feed that holds so many changes, or bytes of keys and values, takes no more: commits that change the bucket are
    refused. So one commit may go beyond. Of several watches the latest one's bounds hold."""

    changes: int = 10_000
    bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Change:
    """`value` None: the key was deleted. `own`: the watching instance made it."""

    number: int
    key: str
    value: bytes | None
    own: bool = False


@dataclass(frozen=True, slots=True)
class FeedPage:
    """`life`: tells the feed from every other one of this bucket; numbers mean nothing outside it. `reached`: the place
    of the watch. `changes`: the first ones after the place that was asked for."""

    life: str
    reached: int
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Watch:
    """A Worker's watch of a bucket for `instance`. `idle_ms`: since it was last renewed."""

    bucket: BucketAddress
    instance: str
    idle_ms: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What an effect did to its key. `value` None: it is gone."""

    value: bytes | None


def changes_of(effect: Effect, outcome: Outcome | None, *, was_there: bool) -> list[tuple[str, Changed]]:
    """By key. The definition for every provider. `was_there`: what is removed had a live value."""
    match effect, outcome:
        case Put(_, key, value), _:
            return [(key, Changed(value))]
        case Remove(_, key), _:
            return [(key, Changed(None))] if was_there else []
        case Increment(_, key), Counted(number):
            return [(key, Changed(b"%d" % number))]
        case Swap(_, key, _, value), Swapped():
            return [(key, Changed(value))]
        case Fill(_, items), Swapped():
            return [(key, Changed(value)) for key, value in items]
    return []


def feed_full(bucket: str) -> FeedFull:
    """`bucket`: its name."""
    return FeedFull(
        f"bucket {bucket!r} takes no changes now: as many as its watch allows wait for an instance that watches "
        "it (watch of spec.keyValue.buckets). Repeat the call later, under the same Idempotency-Key"
    )
