"""Asynchronous calls as a Store keeps them: an instance's inbox. Pure.

A call is *pending* from its acceptance until its result is stored, it is cancelled, or its instance is deleted. It
never expires. Calls of one instance are taken in the order of their due times, those of one instant in the order of
their acceptance; the store's clock decides what is due.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to accept. `fingerprint` (32 bytes) as in `StoredResult`; `payload` is opaque to the store.
    `due_ms`: wall-clock milliseconds since 1970; None: now."""

    key: str
    fingerprint: bytes
    payload: bytes
    due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PendingCall:
    """An accepted call. `attempts`: how often it was taken. `begun`: a part of it is durable, it cannot be cancelled.
    `failure`: why the last attempt failed (opaque), b"" before that."""

    key: str
    fingerprint: bytes
    payload: bytes
    due_ms: int
    attempts: int
    begun: bool
    failure: bytes


class Accepted(enum.Enum):
    """ACCEPTED now; PENDING: the same call waits under its key; FINISHED: its result is stored; CONFLICT: the key is
    bound to another call; FULL: the inbox holds as many calls as it may."""

    ACCEPTED = "accepted"
    PENDING = "pending"
    FINISHED = "finished"
    CONFLICT = "conflict"
    FULL = "full"


class Cancelled(enum.Enum):
    """CANCELLED now; BEGUN: a part of it is durable; FINISHED: its result is stored; UNKNOWN: no such call."""

    CANCELLED = "cancelled"
    BEGUN = "begun"
    FINISHED = "finished"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Taken:
    """`call`: the first one that is due, its attempts counted, or None. `next_ms`: when to look again (wall clock)."""

    call: PendingCall | None
    next_ms: int | None


@dataclass(frozen=True, slots=True)
class Due:
    """`instances`: those with something to do now (a due call, an invocation that has not ended, effects that are not
    confirmed), longest due first. `next_ms`: when the next one is, if none is now. `now_ms`: the store's clock."""

    instances: list[str]
    next_ms: int | None
    now_ms: int
