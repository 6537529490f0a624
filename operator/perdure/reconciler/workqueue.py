"""The queue of Workers to reconcile: each once at a time, triggers that come together become one run.

A trigger that comes while its Worker is being reconciled is about something that this run may not have seen: another
follows. Failures come back with a growing, bounded delay; a fresh trigger runs at once.
"""

from __future__ import annotations

import asyncio
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
            self._items[key] = _Item(due)
        elif item.running:
            item.again = due if item.again is None else min(item.again, due)
        else:
            item.due = min(item.due, due)
        self._changed.set()

    def latest(self) -> float:
        """By how many seconds the item that waits longest is late; 0: nothing is due."""
        now = asyncio.get_running_loop().time()
        return max((now - item.due for item in self._items.values() if not item.running), default=0.0)

    async def run(self) -> None:
        """Serve for ever."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.workers):
                tasks.create_task(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            waiting = [(item.due, key) for key, item in self._items.items() if not item.running]
            due, key = min(waiting, default=(loop.time() + 60, ("", "")))
            if due > loop.time() or key == ("", ""):
                try:
                    async with asyncio.timeout_at(due):
                        await self._changed.wait()
                except TimeoutError:
                    self._changed.set()
                continue
            await self._one(key, self._items[key])

    async def _one(self, key: Key, item: _Item) -> None:
        loop = asyncio.get_running_loop()
        item.running, item.again = True, None
        try:
            following = await self.handler(key)
            item.failures = 0
        except Exception as error:  # noqa: BLE001 - one bad Worker must not stop the others; it is reported and retried
            self.on_error(key, error)
            following = min(_FIRST_DELAY * 2**item.failures, _LONGEST_DELAY)
            item.failures = min(item.failures + 1, 16)
        finally:
            item.running = False
        wanted = [
            due for due in (item.again, None if following is None else loop.time() + following) if due is not None
        ]
        if wanted:
            item.due = min(wanted)
        else:
            del self._items[key]
        self._changed.set()
