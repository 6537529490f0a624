"""The queue of Workers to reconcile: each once at a time, triggers that come together become one run.

A trigger that comes while its Worker is being reconciled is about something that this run may not have seen: another
follows. Failures come back with a growing, bounded delay; a fresh trigger runs at once.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Key = tuple[str, str]
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 60.0


@dataclass(slots=True)
class _Item:
    due: float
    failures: int = 0
    running: bool = False
    again: float | None = None
    """When to run once more, by a trigger that came during the run."""


@dataclass(slots=True)
class WorkQueue:
    """`run` calls `handler(key)`; what it returns is the seconds until the next look, or None."""

    handler: Callable[[Key], Awaitable[float | None]]
    on_error: Callable[[Key, Exception], None]
    workers: int = 16
    _items: dict[Key, _Item] = field(default_factory=dict)
    _order: list[tuple[float, Key]] = field(default_factory=list)
    """A heap of when which item is due. An item that is due sooner than it was is in it twice."""
    _running: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: Key) -> bool:
        return key in self._items

    def trigger(self, key: Key, delay: float = 0.0) -> None:
        """Reconcile `key` in `delay` seconds or sooner."""
        due = asyncio.get_running_loop().time() + delay
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item(due)
            self._put(key, item, due)
        elif item.running:
            item.again = due if item.again is None else min(item.again, due)
        elif due < item.due:
            self._put(key, item, due)

    def latest(self) -> float:
        """By how many seconds the item that waits longest is late; 0: nothing is due."""
        now = asyncio.get_running_loop().time()
        return max((now - item.due for item in self._items.values() if not item.running), default=0.0)

    async def run(self) -> None:
        """Serve for ever."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                due = self._earliest() if self._running < self.workers else None
                if due is not None and due <= loop.time():
                    key = heapq.heappop(self._order)[1]
                    self._items[key].running = True
                    self._running += 1
                    tasks.create_task(self._one(key, self._items[key]))
                    continue
                try:
                    async with asyncio.timeout_at(due):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    def _earliest(self) -> float | None:
        """When the first item is due; it is the first of the order then. What is out of date there goes."""
        while self._order:
            due, key = self._order[0]
            item = self._items.get(key)
            if item is not None and not item.running and item.due == due:
                return due
            heapq.heappop(self._order)
        return None

    def _put(self, key: Key, item: _Item, due: float) -> None:
        item.due = due
        heapq.heappush(self._order, (due, key))
        self._changed.set()

    async def _one(self, key: Key, item: _Item) -> None:
        loop = asyncio.get_running_loop()
        item.again = None
        try:
            following = await self.handler(key)
            item.failures = 0
        except Exception as error:  # noqa: BLE001 - one bad Worker must not stop the others; it is reported and retried
            self.on_error(key, error)
            following = min(_FIRST_DELAY * 2**item.failures, _LONGEST_DELAY)
            item.failures = min(item.failures + 1, 16)
        finally:
            item.running = False
            self._running -= 1
        wanted = [
            due for due in (item.again, None if following is None else loop.time() + following) if due is not None
        ]
        if wanted:
            self._put(key, item, min(wanted))
        else:
            del self._items[key]
            self._changed.set()
