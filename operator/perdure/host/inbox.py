"""Asynchronous calls between the API and the home store: accept, look at, cancel. Nothing runs here."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from perdure.durable.calls import Halt, decode_call, decode_failure, decode_halt, failure_of, unsealed
from perdure.durable.faultpoint import Point, reach
from perdure.durable.inbox import Accepted, Cancelled, NewCall, PendingCall
from perdure.durable.store import Store
from perdure.errors import IdempotencyConflict, Overloaded
from perdure.host.metrics import HostMetrics

_FULL_AGAIN = 5.0


class State(enum.StrEnum):
    """PENDING: it waits for its time, its turn or another attempt. RUNNING: an attempt began. SUCCEEDED, FAILED: its
    result is stored; a failed one was given up."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED)


@dataclass(frozen=True, slots=True)
class CallStatus:
    """What is known of one call. What a finished call was is not kept: then `function` and the times are None.

    `result`: its JSON, of a call that succeeded. `failure`: of one that failed, or of the last attempt (which has a
    time). `blocked`: why a call that waits will not run now. Times in wall-clock milliseconds.
    """

    key: str
    state: State
    function: str | None = None
    attempts: int | None = None
    due_ms: int | None = None
    accepted_ms: int | None = None
    result: bytes | None = None
    failure: tuple[str, str] | None = None
    failed_ms: int | None = None
    blocked: str | None = None


class Wakes(Protocol):
    """Who runs what was accepted, as `Dispatcher`."""

    def wake(self, instance: str, due_ms: int | None) -> None:
        """Something waits for the instance, from `due_ms` on (None: now)."""

    def resume(self, instance: str) -> None:
        """What its call waited for has come, or the call was given up."""

    def forget(self, instance: str) -> None:
        """It was deleted: what is known of it says nothing of the next one of its name."""


class Inbox:
    """`max_pending`: calls that may wait for one instance. `wall_ms`: the clock."""

    def __init__(
        self, store: Store, wakes: Wakes, metrics: HostMetrics, *, max_pending: int, wall_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._wakes = wakes
        self._metrics = metrics
        self._max_pending = max_pending
        self._wall_ms = wall_ms

    async def accept(self, instance: str, call: NewCall) -> Accepted:
        """ACCEPTED, PENDING or FINISHED; from then on the call runs even if every host dies.

        Raises `Overloaded` (the inbox is full), `IdempotencyConflict` and what the store raises.
        """
        accepted = await self._store.enqueue(instance, call, self._max_pending)
        reach(Point.ACCEPT_AFTER)
        self._metrics.async_call(accepted.value)
        if accepted is Accepted.FULL:
            raise Overloaded(
                f"{self._max_pending} asynchronous calls wait for instance {instance!r} (limits.maxPendingPerInstance)",
                retry_after=_FULL_AGAIN,
            )
        if accepted is Accepted.CONFLICT:
            raise IdempotencyConflict(
                f"the idempotency key {call.key!r} was used for another function or other arguments"
            )
        if accepted is not Accepted.FINISHED:
            self._wakes.wake(instance, call.due_ms)
        return accepted

    def resume(self, instance: str) -> None:
        """See `Wakes`."""
        self._wakes.resume(instance)

    def forget(self, instance: str) -> None:
        """See `Wakes`."""
        self._wakes.forget(instance)

    async def cancel(self, instance: str, key: str) -> Cancelled:
        """Withdraw a call that has not begun."""
        cancelled = await self._store.cancel(instance, key)
        if cancelled is Cancelled.CANCELLED:
            self._metrics.async_call("cancelled")
        return cancelled

    async def status(self, instance: str, key: str) -> CallStatus | None:
        """None: no call is known under this key."""
        # In this order a call that ends in between is not missed.
        waiting = await self._store.pending(instance, key)
        if waiting is not None:
            return self._waiting(waiting, await self._halt(instance))
        stored = await self._store.result(instance, key)
        if stored is None:
            return None
        body = unsealed(stored.body)
        failure = failure_of(body)
        if failure is not None:
            return CallStatus(key, State.FAILED, failure=failure)
        return CallStatus(key, State.SUCCEEDED, result=body)

    async def waiting(self, instance: str, limit: int) -> list[CallStatus]:
        """The first pending calls in the order in which they will be taken."""
        found = await self._store.inbox(instance, limit)
        halt = await self._halt(instance) if found else None
        return [self._waiting(call, halt) for call in found]

    async def _halt(self, instance: str) -> Halt | None:
        info = await self._store.instance(instance)
        return decode_halt(info.halt) if info is not None and info.halt is not None else None

    def _waiting(self, call: PendingCall, halt: Halt | None) -> CallStatus:
        payload, failed = decode_call(call.payload), decode_failure(call.failure)
        # A failed attempt moves the time a call is due at: one that was begun before and is due runs, or is about to.
        begun = call.begun or (call.attempts > 0 and call.due_ms <= self._wall_ms())
        return CallStatus(
            call.key,
            State.RUNNING if begun and halt is None else State.PENDING,
            function=payload.function,
            attempts=call.attempts,
            due_ms=call.due_ms,
            accepted_ms=payload.accepted_ms,
            failure=None if failed is None else (failed.code, failed.detail),
            failed_ms=None if failed is None else failed.at_ms,
            blocked=None if halt is None else f"the instance is {halt.state.value.lower()}: {halt.reason}",
        )
