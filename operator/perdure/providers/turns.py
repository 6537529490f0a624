"""Bounds on a provider's requests: how many are under way, how many wait for that, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from perdure.errors import Overloaded, PerdureError, ProviderUnavailable

_WAITING = 4096


class Turns:
    """`at_once` requests are under way, each within `timeout` seconds, waiting included. `what`: the server, for words;
    `translate`: what a request that took too long is to its caller."""

    def __init__(
        self, at_once: int, timeout: float, what: Callable[[], str], translate: Callable[[Exception], PerdureError]
    ) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._timeout = timeout
        self._what = what
        self._translate = translate
        self._waiting = 0
        self._closed = False

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises `Overloaded`, and `ProviderUnavailable` after `close`."""
        if self._closed:
            raise ProviderUnavailable("the store is closed")
        if self._waiting >= _WAITING:
            raise Overloaded(f"{_WAITING} operations wait for {self._what()}")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                yield
        except TimeoutError as error:
            raise self._translate(error) from error
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Nobody else gets a turn."""
        self._closed = True
