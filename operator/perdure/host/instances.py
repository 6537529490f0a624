"""The instance table: which instances this host holds in memory, and one invocation at a time for each.

Bounded twice: `max_in_memory` instances, of which the least recently used idle one is dropped for a new one
(nothing is lost: its journal is in the store), and `max_queued` invocations waiting for one instance. Over a
bound the caller gets `Overloaded`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from perdure.durable.instance import DurableInstance, Invocation, InvocationResult
from perdure.errors import InvocationTimeout, Overloaded


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """`in_memory`: instances held; `queued`: invocations waiting or running; `evicted`: dropped since the start."""

    in_memory: int
    queued: int
    evicted: int


@dataclass(slots=True)
class _Slot:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    instance: DurableInstance | None = None


class InstanceTable:
    """`opener` claims an instance and rebuilds its memory; it raises what `DurableInstance.open` raises."""

    def __init__(
        self,
        opener: Callable[[str, float], Awaitable[DurableInstance]],
        *,
        max_in_memory: int,
        max_queued: int,
    ) -> None:
        self._open = opener
        self._max_in_memory = max_in_memory
        self._max_queued = max_queued
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._evicted = 0

    def statistics(self) -> TableStatistics:
        held = sum(1 for slot in self._slots.values() if slot.instance is not None)
        return TableStatistics(held, sum(slot.users for slot in self._slots.values()), self._evicted)

    def holds(self, name: str) -> bool:
        """Whether the instance is in this host's memory and usable."""
        slot = self._slots.get(name)
        return slot is not None and slot.instance is not None and slot.instance.usable

    async def invoke(self, name: str, invocation: Invocation) -> InvocationResult:
        """Run one invocation in its turn. Raises `Overloaded`, `InvocationTimeout` and what the engine raises."""
        slot = self._enter(name)
        try:
            await self._turn(slot, name, invocation.deadline)
            try:
                if slot.instance is None or not slot.instance.usable:
                    self._discard(slot)
                    slot.instance = await self._open(name, invocation.deadline)
                return await slot.instance.invoke(invocation)
            finally:
                if slot.instance is not None and not slot.instance.usable:
                    self._discard(slot)
                slot.lock.release()
        finally:
            slot.users -= 1
            if slot.users == 0 and slot.instance is None:
                self._slots.pop(name, None)

    def forget(self, name: str) -> None:
        """Drop an idle instance from memory; one that is running is fenced by its deleted token instead."""
        slot = self._slots.get(name)
        if slot is not None and slot.users == 0:
            self._discard(slot)
            del self._slots[name]

    def close(self) -> None:
        """Drop every instance from memory."""
        for slot in self._slots.values():
            self._discard(slot)
        self._slots.clear()

    def _enter(self, name: str) -> _Slot:
        slot = self._slots.get(name)
        if slot is None:
            self._make_room()
            slot = self._slots[name] = _Slot()
        if slot.users > self._max_queued:
            raise Overloaded(
                f"instance {name!r} has {self._max_queued} invocations waiting (limits.maxQueuedPerInstance)"
            )
        self._slots.move_to_end(name)
        slot.users += 1
        return slot

    async def _turn(self, slot: _Slot, name: str, deadline: float) -> None:
        if slot.users == 1:
            # Nobody runs or waits: the lock is had at once, and a timer for it would cost more than the lock.
            await slot.lock.acquire()
            return
        try:
            async with asyncio.timeout_at(deadline):
                await slot.lock.acquire()
        except TimeoutError:
            raise InvocationTimeout(
                f"the invocation waited for its turn on instance {name!r} until its time was over; it did not run"
            ) from None

    def _make_room(self) -> None:
        if len(self._slots) < self._max_in_memory:
            return
        for name, slot in self._slots.items():
            if slot.users == 0:
                self._discard(slot)
                del self._slots[name]
                self._evicted += 1
                return
        raise Overloaded(
            f"{self._max_in_memory} instances are in memory and all are busy (limits.maxInstancesInMemory)"
        )

    def _discard(self, slot: _Slot) -> None:
        if slot.instance is not None:
            slot.instance.close()
            slot.instance = None
