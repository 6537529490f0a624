"""How a Worker's manifest sets the engine: gates, snapshots, retries, updates. Pure; times in milliseconds."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass


class CommitMode(enum.StrEnum):
    """INVOCATION: writes become durable at the end of an invocation, or at an earlier gate. EFFECT: each write is
    durable before the guest goes on."""

    INVOCATION = "Invocation"
    EFFECT = "Effect"


class MemoryMode(enum.StrEnum):
    """INSTANCE: a guest's memory goes on from call to call. INVOCATION: each call begins with a new one, as hosts do it
    that make an instance for every request."""

    INSTANCE = "Instance"
    INVOCATION = "Invocation"


class UpdatePolicy(enum.StrEnum):
    """What becomes of an instance whose journal names another component than the Worker's present one.

    RESTART: fresh memory, its buckets stay. PIN: it stays on its component. MIGRATE: the guest hands its state over
    (`perdure:durable/snapshot`); where that fails it stays on its component.
    """

    RESTART = "Restart"
    PIN = "Pin"
    MIGRATE = "Migrate"


class Failure(enum.StrEnum):
    """Kinds of a failed attempt that a retry policy can name."""

    TRAP = "Trap"
    TIMEOUT = "Timeout"
    INVALID = "Invalid"


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """A snapshot is due when replay of what follows the last one would take `replay_ms` (the guest's own time), or it
    has so many `entries` or `bytes`. After `chain` deltas a whole snapshot replaces them."""

    replay_ms: int = 100
    entries: int = 1000
    bytes: int = 4 << 20
    chain: int = 8

    def due(self, *, guest_us: int, entries: int, size: int) -> bool:
        return entries > 0 and (guest_us >= self.replay_ms * 1000 or entries >= self.entries or size >= self.bytes)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """For asynchronous calls. `failures`: the kinds that are tried again; others quarantine at once."""

    max_attempts: int = 5
    initial_ms: int = 1_000
    max_ms: int = 300_000
    multiplier: float = 2.0
    failures: frozenset[Failure] = frozenset({Failure.TRAP, Failure.TIMEOUT})

    def again(self, attempts: int, failure: Failure) -> bool:
        """Whether a call that failed so after so many attempts is tried once more."""
        return failure in self.failures and attempts < self.max_attempts

    def delay_ms(self, attempts: int) -> int:
        """Exponential, with full jitter in its upper half, so that many that failed together do not return so."""
        # A float overflows beyond 2**1023: the bound is reached long before.
        longest = min(float(self.max_ms), self.initial_ms * self.multiplier ** min(attempts - 1, 60))
        return int(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
