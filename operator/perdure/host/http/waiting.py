"""Long polls: a bounded number of requests that wait a bounded time, and that end at once when the host does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from perdure.errors import Overloaded

T = TypeVar("T")
_FIRST, _LONGEST = 0.05, 1.0


class Waiting:
    """`most`: requests that may wait at one time."""

    def __init__(self, *, most: int = 1000) -> None:
        self._most = most
        self._waiting = 0
        self._ended = asyncio.Event()

    def end(self) -> None:
        """The host is draining: whoever waits gets what there is."""
        self._ended.set()

    async def until(self, look: Callable[[], Awaitable[T]], enough: Callable[[T], bool], seconds: float) -> T:
        """What `look` gives as soon as that is `enough`, or after so many seconds. Raises `Overloaded`."""
        found = await look()
        if seconds <= 0 or enough(found):
            return found
        if self._waiting >= self._most:
            raise Overloaded(f"{self._most} requests wait on this host already; ask without waiting")
        self._waiting += 1
        try:
            return await self._wait(look, enough, seconds, found)
        finally:
            self._waiting -= 1

    async def _wait(self, look: Callable[[], Awaitable[T]], enough: Callable[[T], bool], seconds: float, found: T) -> T:
        loop = asyncio.get_running_loop()
        limit, pause = loop.time() + seconds, _FIRST
        while not self._ended.is_set() and (remaining := limit - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(remaining, pause * random.uniform(0.75, 1.25))):  # noqa: S311 - jitter
                    await self._ended.wait()
            except TimeoutError:
                pass
            found = await look()
            if enough(found):
                return found
            pause = min(pause * 1.5, _LONGEST)
        return found
