"""The instance table: which instances this host holds in memory, and one thing at a time for each.

Bounded twice: `max_in_memory` instances, of which the least recently used idle one is dropped for a new one
(nothing is lost: its journal is in the store), and `max_queued` invocations waiting for one instance. Over a
bound the caller gets `Overloaded`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb, control
from perdure.durable.environment import EngineEnvironment
from perdure.durable.instance import DurableInstance, Invocation, InvocationResult
from perdure.durable.pending import opening_failed, run_next
from perdure.errors import Fenced, InvocationTimeout, Overloaded, PerdureError, SnapshotRefused

log = logging.getLogger(__name__)
_TURN_CALLS = 100
"""Calls of one inbox that run before others get the instance."""


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
    opening: asyncio.Timeout | None = None
    snapshot_wanted: bool = False


class InstanceTable:
    """Instances of one Worker. `timeout`: seconds that an asynchronous call may run."""

    def __init__(
        self,
        library: ComponentLibrary,
        environment: EngineEnvironment,
        *,
        max_in_memory: int,
        max_queued: int,
        timeout: float = 30.0,
    ) -> None:
        self._library = library
        self._environment = environment
        self._max_in_memory = max_in_memory
        self._max_queued = max_queued
        self._timeout = timeout
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._evicted = 0
        # At most one entry an instance in memory, so bounded as they are.
        self._due: asyncio.Queue[str] = asyncio.Queue()

    def statistics(self) -> TableStatistics:
        held = sum(1 for slot in self._slots.values() if slot.instance is not None)
        return TableStatistics(held, sum(slot.users for slot in self._slots.values()), self._evicted)

    def holds(self, name: str) -> bool:
        """Whether the instance is in this host's memory and usable."""
        slot = self._slots.get(name)
        return slot is not None and slot.instance is not None and slot.instance.usable

    def in_memory(self, name: str) -> bool:
        """Whether it is in this host's memory, be it that a call runs now."""
        slot = self._slots.get(name)
        return self.holds(name) or (slot is not None and slot.instance is not None and slot.lock.locked())

    def busy(self, name: str) -> bool:
        """Whether something runs on the instance now, or waits to."""
        slot = self._slots.get(name)
        return slot is not None and slot.users > 0

    async def invoke(self, name: str, invocation: Invocation) -> InvocationResult:
        """Run one invocation in its turn. Raises `Overloaded`, `InvocationTimeout` and what the engine raises."""
        async with self._turn(name, invocation.deadline) as slot:
            instance = await self._opened(slot, name, invocation.deadline)
            return await instance.invoke(invocation)

    async def run_pending(self, name: str) -> int | None:
        """Run what is due of the instance's inbox, a bounded number of calls; when to look again (wall-clock ms; 0:
        at once), None: nothing waits. Opening the instance finishes an invocation that had not ended.

        Raises as `invoke`, and `Quarantined` when a call is out of attempts.
        """
        for _ in range(_TURN_CALLS):
            deadline = self._now() + self._timeout
            async with self._turn(name, deadline) as slot:
                try:
                    instance = await self._opened(slot, name, deadline)
                except Exception as error:
                    await opening_failed(name, self._environment, error)
                    raise
                ran = await run_next(instance, self._environment, deadline)
            if not ran.ran:
                return ran.next_ms
        return 0

    async def control(self, name: str, verb: Verb) -> None:
        """Carry out what an operator wants. Raises `NoSuchInstance`, `BadRequest`, `SnapshotRefused` and as `invoke`.

        INTERRUPT does not wait for what runs: it takes the instance from it.
        """
        if verb is Verb.INTERRUPT:
            await control(name, verb, self._library, self._environment, runs=self.busy(name))
            self._cut_off(name)
            return
        deadline = self._now() + self._timeout
        async with self._turn(name, deadline) as slot:
            if verb is not Verb.SNAPSHOT:
                self._discard(slot)
                await control(name, verb, self._library, self._environment)
                return
            instance = await self._opened(slot, name, deadline)
            taken = await instance.capture()
            if taken is None:
                raise SnapshotRefused("the instance cannot be captured now", reason="component")
            await instance.keep(taken, instance.sequence)

    async def run(self) -> None:
        """Take the snapshots that are due, one after another, for ever. A failure costs longer replay, nothing else."""
        while True:
            name = await self._due.get()
            slot = self._slots.get(name)
            if slot is None:
                continue
            slot.snapshot_wanted = False
            try:
                await self._snapshot(name)
            except PerdureError as error:
                log.info("no snapshot was kept: %s", error, extra={"fields": {"instance": name, "code": error.code}})

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

    async def _snapshot(self, name: str) -> None:
        async with self._turn(name, self._now() + self._timeout, opens=False) as slot:
            instance = slot.instance
            if instance is None or not instance.snapshot_due:
                return
            taken = await instance.capture()
            sequence = instance.sequence
        if taken is not None:
            await instance.keep(taken, sequence)

    @asynccontextmanager
    async def _turn(self, name: str, deadline: float, *, opens: bool = True) -> AsyncIterator[_Slot]:
        """The instance, for one caller at a time, in the order of their coming."""
        slot = self._enter(name)
        try:
            await self._lock(slot, name, deadline)
            try:
                yield slot
            finally:
                if slot.instance is not None and not slot.instance.usable:
                    self._discard(slot)
                slot.lock.release()
        finally:
            slot.users -= 1
            if slot.users == 0 and slot.instance is None and self._slots.get(name) is slot:
                del self._slots[name]
        if opens and slot.instance is not None and slot.instance.snapshot_due and not slot.snapshot_wanted:
            slot.snapshot_wanted = True
            self._due.put_nowait(name)

    async def _opened(self, slot: _Slot, name: str, deadline: float) -> DurableInstance:
        if slot.instance is None or not slot.instance.usable:
            self._discard(slot)
            try:
                async with asyncio.timeout(None) as slot.opening:
                    slot.instance = await DurableInstance.open(
                        name, self._library, self._environment, deadline=deadline
                    )
            except TimeoutError as error:
                raise Fenced(f"instance {name!r} was taken from this host while it was opened") from error
            finally:
                slot.opening = None
        return slot.instance

    def _cut_off(self, name: str) -> None:
        """What runs on the instance could commit nothing more."""
        slot = self._slots.get(name)
        if slot is None:
            return
        if slot.opening is not None:
            slot.opening.reschedule(self._now())
        elif slot.instance is not None:
            slot.instance.cut_off()

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

    async def _lock(self, slot: _Slot, name: str, deadline: float) -> None:
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

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _discard(self, slot: _Slot) -> None:
        if slot.instance is not None:
            slot.instance.close()
            slot.instance = None
