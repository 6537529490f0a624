"""What an invocation does to buckets: addresses, effects, and the outcomes of atomic ones. Pure.

A *counter* is a value that holds a signed 64-bit integer as decimal text: `get` after an increment by 5 of a missing
key gives `b"5"`, at every provider.
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from perdure.errors import InternalError

COUNTER_MIN, COUNTER_MAX = -(1 << 63), (1 << 63) - 1
_COUNTER = re.compile(rb"(0|-?[1-9][0-9]{0,18})\Z")
_LENGTH = struct.Struct(">cI")


class Scope(enum.StrEnum):
    """Who shares a bucket."""

    WORKER = "Worker"
    INSTANCE = "Instance"
    NAMESPACE = "Namespace"


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """One physical bucket within a Store. `instance` is set for scope INSTANCE only. Names hold any characters."""

    scope: Scope
    name: str
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Set `key` to `value`. `ttl_ms`: time to live from the commit on, by the store's clock."""

    bucket: BucketAddress
    key: str
    value: bytes
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete `key`; a missing key is fine."""

    bucket: BucketAddress
    key: str


@dataclass(frozen=True, slots=True)
class Increment:
    """Add `delta` to the counter at `key`; a missing one is 0. Its time to live stays; a new one gets `ttl_ms`.

    Outcome: `Counted`, or `Refused` ("not-a-counter", "overflow", "full") and the value is as it was. `max_keys`: as of
    a `Fill`.
    """

    bucket: BucketAddress
    key: str
    delta: int
    ttl_ms: int | None = None
    max_keys: int | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """Set `key` to `value` if it holds `expected` (None: if it is missing). `max_keys`: as of a `Fill`.

    Outcome: `Swapped`, `Conflict`, or `Refused` ("full").
    """

    bucket: BucketAddress
    key: str
    expected: bytes | None
    value: bytes
    ttl_ms: int | None = None
    max_keys: int | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """Set all of `items` (one at least, of different keys); none of them where the missing ones have no room.

    There is room while the bucket has at most `max_keys` live keys. Outcome: `Swapped` or `Refused` ("full"). An effect
    that has `max_keys` is the last one that its store is given at once.
    """

    bucket: BucketAddress
    items: tuple[tuple[str, bytes], ...]
    max_keys: int
    ttl_ms: int | None = None


Effect: TypeAlias = Put | Remove | Increment | Swap | Fill
Bounded: TypeAlias = Increment | Swap | Fill
"""Those that may have `max_keys`."""


@dataclass(frozen=True, slots=True)
class Counted:
    """An increment took place; `value` is the new one."""

    value: int


@dataclass(frozen=True, slots=True)
class Swapped:
    """A swap took place."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A swap did not: `current` is there (None: nothing)."""

    current: bytes | None


@dataclass(frozen=True, slots=True)
class Refused:
    """An atomic effect that could not be applied; nothing was changed by it, and the commit's other effects were."""

    reason: str


Outcome: TypeAlias = Counted | Swapped | Conflict | Refused


def keys_of(effect: Effect) -> list[str]:
    """The keys that an effect may change."""
    return [key for key, _ in effect.items] if isinstance(effect, Fill) else [effect.key]


def fits(
    keys: Iterable[str], bound: int, count: int, present: Iterable[str], written: Iterable[tuple[str, object]]
) -> bool:
    """Whether a bucket with room for `bound` keys has room for `keys`, or has them all, once `written` was done in it
    (None: a deletion). `count`: its live keys before that; `present`: which of those that are concerned are among them.
    """
    there = set(present)
    for key, value in written:
        count += (value is not None) - (key in there)
        (there.discard if value is None else there.add)(key)
    new = len(set(keys) - there)
    return new == 0 or count + new <= bound


def bounded(effects: Sequence[Effect]) -> Bounded | None:
    """The last effect, where it has `max_keys`."""
    last = effects[-1] if effects else None
    return last if isinstance(last, (Increment, Swap, Fill)) and last.max_keys is not None else None


def counted(current: bytes | None, delta: int) -> Counted | Refused:
    """What an increment of `current` gives: the definition for every provider that computes it itself."""
    text = b"0" if current is None else current
    if not _COUNTER.match(text) or not COUNTER_MIN <= int(text) <= COUNTER_MAX:
        return Refused("not-a-counter")
    value = int(text) + delta
    return Counted(value) if COUNTER_MIN <= value <= COUNTER_MAX else Refused("overflow")


def encode_outcomes(outcomes: Iterable[Outcome]) -> bytes:
    """As a store keeps them beside the journal entry: each one a letter, a big-endian u32 length and as many bytes.

    `i` decimal value, `s` swapped, `c` the current value, `m` missing, `e` reason.
    """
    parts: list[bytes] = []
    for outcome in outcomes:
        letter, data = _encoded(outcome)
        parts.append(_LENGTH.pack(letter, len(data)) + data)
    return b"".join(parts)


def _encoded(outcome: Outcome) -> tuple[bytes, bytes]:
    match outcome:
        case Counted(value):
            return b"i", b"%d" % value
        case Swapped():
            return b"s", b""
        case Conflict(current):
            return (b"m", b"") if current is None else (b"c", current)
        case Refused(reason):
            return b"e", reason.encode()


def decode_outcomes(data: bytes) -> list[Outcome]:
    """The reverse. Raises `InternalError`."""
    found: list[Outcome] = []
    at = 0
    while at < len(data):
        letter, size = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        body = data[at : at + size]
        at += size
        match letter:
            case b"i":
                found.append(Counted(int(body)))
            case b"s":
                found.append(Swapped())
            case b"m":
                found.append(Conflict(None))
            case b"c":
                found.append(Conflict(body))
            case b"e":
                found.append(Refused(body.decode()))
            case _:
                raise InternalError(f"the store answered with an outcome of kind {letter!r}")
    return found
