"""Running what waits in inboxes: which of this host's instances have something to do, and a bounded number at once.

A call that this host accepted for an instance of its own starts at once. Everything else is found by asking the store
for what is due, at most once in `interval` seconds and not in step with other hosts: calls that another host accepted,
calls whose time has come, and what a host that died has left. Nothing here is needed for safety; a host that
dispatches too much is fenced, and what one dispatches too little another finds.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from perdure.durable.inbox import Due
from perdure.durable.records import HostRecord
from perdure.durable.store import BucketStore
from perdure.errors import Fenced, InternalError, Overloaded, PerdureError, ProviderUnavailable, Suspended
from perdure.host.metrics import HostMetrics
from perdure.host.ownership import Ownership
from perdure.host.parking import Parking
from perdure.host.routing import is_preferred

log = logging.getLogger(__name__)
_BATCH, _MOST = 256, 4096
_LONGEST, _PASSING = 30.0, 5.0
_SHORTEST = 0.05
_PATIENCE = 2.0
"""Seconds for which an instance that is busy anyway is left alone; then its inbox waits in line with its callers."""


class Table(Protocol):
    """What runs an instance, as `InstanceTable`."""

    def busy(self, name: str) -> bool:
        """Whether it runs something now."""

    async def run_pending(self, name: str) -> int | None:
        """Run what is due; wall-clock ms of the next look, 0: at once, None: nothing waits."""


class Members(Protocol):
    """As `Membership`."""

    @property
    def me(self) -> HostRecord: ...

    @property
    def hosts(self) -> tuple[HostRecord, ...]: ...


class DueSource(BucketStore, Protocol):
    """As `InboxStore`, with the promises that calls wait for."""

    async def due(self, limit: int) -> Due: ...


class _Failures:
    """Instances that are left alone for a while, at most `_MOST`: (until, failures in a row)."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def delay(self, name: str, now: float) -> float:
        return max(0.0, self._known.get(name, (0.0, 0))[0] - now)

    def add(self, name: str, now: float, least: float, most: float) -> bool:
        """Left alone for so many seconds. Whether it is the first failure in a row."""
        failures = self._known.pop(name, (0.0, 0))[1] + 1
        self._known[name] = (now + _backoff(failures, least, most), failures)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return failures == 1

    def clear(self, name: str) -> None:
        self._known.pop(name, None)


class Dispatcher:
    """`run()` as a task. `concurrency`: instances whose inbox runs at one time. `ran`: called when one has run."""

    def __init__(
        self,
        store: DueSource,
        table: Table,
        members: Members,
        ownership: Ownership,
        metrics: HostMetrics,
        *,
        concurrency: int = 32,
        interval: float = 1.0,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._table = table
        self._members = members
        self._ownership = ownership
        self._metrics = metrics
        self._concurrency = concurrency
        self._interval = interval
        self._wall_ms = wall_ms
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[str, bool] = {}  # True: once more when it has ended
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._failures = _Failures()
        self._parking = Parking(store, wall_ms)
        self.ran: Callable[[str], None] = lambda name: None
        self._busy: OrderedDict[str, float] = OrderedDict()
        self._woken = asyncio.Event()
        self._look_at = 0.0
        self._unanswered = 0
        self._limit = _BATCH
        self._stopping = False

    @property
    def running(self) -> int:
        """Instances whose inbox runs now."""
        return len(self._running)

    def stop(self) -> None:
        """Begin nothing any more; what runs runs on."""
        self._stopping = True
        self._queue.clear()
        self._running = dict.fromkeys(self._running, False)

    def wake(self, instance: str, due_ms: int | None) -> None:
        """A call was accepted here. See `Wakes`."""
        wait = 0.0 if due_ms is None else (due_ms - self._wall_ms()) / 1000
        if wait > 0:
            self._sooner(self._now() + wait)
        elif self._mine(instance):
            # In line with whoever runs it now.
            self._offer(instance, patiently=True)

    def resume(self, instance: str) -> None:
        """See `Wakes`."""
        self._parking.leave(instance)
        self.wake(instance, None)

    def forget(self, instance: str) -> None:
        """See `Wakes`."""
        self._parking.leave(instance)
        self._failures.clear(instance)

    async def run(self) -> None:
        """Look and run for ever."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                if not self._stopping:
                    await self._look()
                await self._rest()

    async def _look(self) -> None:
        try:
            await self._parking.look()
            due = await self._store.due(self._limit)
        except PerdureError as error:
            self._unanswered += 1
            if self._unanswered == 1:
                log.warning("the store does not say what is due: %s", error, extra={"fields": {"code": error.code}})
            self._metrics.dispatch_error(error.code)
            self._look_at = self._now() + _backoff(self._unanswered, self._interval, _PASSING)
            return
        self._unanswered = 0
        now = self._now()
        self._look_at = now + self._interval * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        if due.next_ms is not None:
            wait = (due.next_ms - due.now_ms) / 1000 + random.uniform(0, _SHORTEST)  # noqa: S311 - jitter
            self._sooner(now + max(_SHORTEST, wait))
        if (parked_ms := self._parking.next_ms) is not None:
            self._sooner(now + (parked_ms - self._wall_ms()) / 1000)
        self._metrics.due_instances.set(len(due.instances))
        mine: list[str] = []
        for name in due.instances:
            if not self._mine(name):
                # Whoever has it now may give up its call, or delete it.
                self._parking.leave(name)
            elif not self._parking.holds(name):
                mine.append(name)
        # Behind a full page of other hosts' instances there may be some of ours.
        full = len(due.instances) >= self._limit and len(mine) < self._concurrency
        self._limit = min(self._limit * 2, _MOST) if full else _BATCH
        self._queue.clear()
        for name in mine:
            self._offer(name)

    async def _rest(self) -> None:
        """Until the next look is due, or something made that sooner."""
        while (remaining := self._look_at - self._now()) > 0 or self._stopping:
            self._woken.clear()
            try:
                async with asyncio.timeout(None if self._stopping else remaining):
                    await self._woken.wait()
            except TimeoutError:
                return

    def _sooner(self, at: float) -> None:
        if at < self._look_at:
            self._look_at = max(at, self._now() + _SHORTEST)
            self._woken.set()

    def _offer(self, name: str, *, patiently: bool = False) -> None:
        """Start it now, or when another one has ended. `patiently`: even if it is busy."""
        if self._stopping or self._tasks is None:
            return
        if name in self._running:
            self._running[name] = True
        elif self._may_run(name, patiently):
            if len(self._running) < self._concurrency:
                self._start(name, self._tasks)
            elif len(self._queue) < _MOST:
                self._queue[name] = None

    def _may_run(self, name: str, patiently: bool) -> bool:
        now = self._now()
        if self._failures.delay(name, now) > 0 or self._ownership.delay(name) > 0 or self._parking.holds(name):
            return False
        if patiently or not self._table.busy(name):
            self._busy.pop(name, None)
            return True
        since = self._busy.setdefault(name, now)
        if len(self._busy) > _MOST:
            self._busy.popitem(last=False)
        return now - since >= _PATIENCE

    def _start(self, name: str, tasks: asyncio.TaskGroup) -> None:
        self._busy.pop(name, None)
        self._running[name] = False
        tasks.create_task(self._run(name))

    async def _run(self, name: str) -> None:
        """Never raises but when it is cancelled: one bad instance must not stop the others."""
        try:
            with self._ownership.observed(name):
                again_ms = await self._table.run_pending(name)
        except asyncio.CancelledError:
            self.stop()
            raise
        except Suspended as error:
            self._failures.clear(name)
            self._parking.park(name, error.until)
        except PerdureError as error:
            self._failed(name, error)
        except Exception:
            log.exception("defect while running an inbox", extra={"fields": {"instance": name}})
            self._failed(name, InternalError("a defect of the host"))
        else:
            self._failures.clear(name)
            if again_ms is not None:
                wait = (again_ms - self._wall_ms()) / 1000
                if wait <= 0:
                    self._running[name] = True
                else:
                    self._sooner(self._now() + wait)
        finally:
            once_more = self._running.pop(name)
            self.ran(name)
            self._next(name if once_more else None)

    def _next(self, ended: str | None) -> None:
        """A place is free: for the one that has waited longest, and then for the one that just ended."""
        while self._queue and len(self._running) < self._concurrency:
            name, _ = self._queue.popitem(last=False)
            if self._mine(name):
                self._offer(name)
        if ended is not None and self._mine(ended):
            self._offer(ended, patiently=True)

    def _failed(self, name: str, error: PerdureError) -> None:
        self._metrics.dispatch_error(error.code)
        least = error.retry_after if isinstance(error, (Overloaded, ProviderUnavailable)) else 0.5
        # What passes by itself, such as a store that is away, must not be noticed late when it has passed.
        first = self._failures.add(name, self._now(), least, _PASSING if error.retryable else _LONGEST)
        if isinstance(error.__cause__, InternalError):
            log.error("a defect of the host", exc_info=error, extra={"fields": {"instance": name, "code": error.code}})
        level = logging.DEBUG if not first else logging.INFO if isinstance(error, Fenced) else logging.WARNING
        log.log(level, "an inbox waits: %s", error, extra={"fields": {"instance": name, "code": error.code}})

    def _mine(self, name: str) -> bool:
        return is_preferred(self._members.me, name, self._members.hosts)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _backoff(failures: int, least: float, most: float) -> float:
    """Seconds: twice as long each time, up to `most`, and not in step with others."""
    longest = min(most, max(_SHORTEST, least) * 2.0 ** min(failures - 1, 30))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
