"""The memory store's inboxes, and who has something to do."""

from __future__ import annotations

from dataclasses import replace

from perdure.durable.inbox import Accepted, Cancelled, Due, NewCall, PendingCall, Taken
from perdure.durable.records import OwnerToken
from perdure.providers.memory.base import Base
from perdure.providers.memory.world import Instance, Pending


class Inboxes(Base):
    """Implements `InboxStore`, and `take` and `postpone` of `OwnedStore`."""

    async def take(self, instance: str, token: OwnerToken) -> Taken:
        held = self._owned(instance, token)
        first = min(held.inbox.values(), key=lambda waiting: waiting.order, default=None)
        if first is None:
            return Taken(None, None)
        if first.call.due_ms > self._world.now_ms():
            return Taken(None, first.call.due_ms)
        first.call = replace(first.call, attempts=first.call.attempts + 1)
        return Taken(first.call, None)

    async def postpone(self, instance: str, token: OwnerToken, key: str, delay_ms: int, failure: bytes) -> None:
        waiting = self._owned(instance, token).inbox.get(key)
        if waiting is not None:
            waiting.call = replace(waiting.call, due_ms=self._world.now_ms() + delay_ms, failure=failure)

    async def enqueue(self, instance: str, call: NewCall, max_pending: int) -> Accepted:
        held = self._data.instances.get(instance) or Instance()
        if self._finished(held, call.key):
            same = held.results[call.key][0].fingerprint == call.fingerprint
            return Accepted.FINISHED if same else Accepted.CONFLICT
        waiting = held.inbox.get(call.key)
        if waiting is not None:
            return Accepted.PENDING if waiting.call.fingerprint == call.fingerprint else Accepted.CONFLICT
        if len(held.inbox) >= max_pending:
            return Accepted.FULL
        due_ms = self._world.now_ms() if call.due_ms is None else call.due_ms
        accepted = PendingCall(call.key, call.fingerprint, call.payload, due_ms, 0, begun=False, failure=b"")
        self._data.accepted += 1
        held.inbox[call.key] = Pending(accepted, self._data.accepted)
        self._data.instances[instance] = held
        return Accepted.ACCEPTED

    async def cancel(self, instance: str, key: str) -> Cancelled:
        held = self._data.instances.get(instance)
        if held is None:
            return Cancelled.UNKNOWN
        if self._finished(held, key):
            return Cancelled.FINISHED
        waiting = held.inbox.get(key)
        if waiting is None:
            return Cancelled.UNKNOWN
        if waiting.call.begun:
            return Cancelled.BEGUN
        del held.inbox[key]
        self._forget_if_empty(instance)
        return Cancelled.CANCELLED

    async def pending(self, instance: str, key: str) -> PendingCall | None:
        held = self._data.instances.get(instance)
        waiting = held.inbox.get(key) if held else None
        return None if waiting is None else waiting.call

    async def inbox(self, instance: str, limit: int) -> list[PendingCall]:
        held = self._data.instances.get(instance)
        waiting = sorted(held.inbox.values(), key=lambda one: one.order) if held else []
        return [one.call for one in waiting[:limit]]

    async def due(self, limit: int) -> Due:
        now = self._world.now_ms()
        times = {name: due_ms for name, held in self._data.instances.items() if (due_ms := due_of(held)) is not None}
        found = sorted((due_ms, name) for name, due_ms in times.items() if due_ms <= now)
        if found:
            return Due([name for _, name in found[:limit]], None, now)
        return Due([], min(times.values(), default=None), now)


def due_of(held: Instance) -> int | None:
    """When it has something to do, in ms; 0: an invocation that has not ended, or effects that are not confirmed."""
    if held.halt is not None:
        return None
    if held.open or held.unapplied:
        return 0
    return min((waiting.call.due_ms for waiting in held.inbox.values()), default=None)
