"""Which member is spoken to. After a failure all callers share one attempt to find one that answers, which waits a
random while that grows, so that a cluster that comes up again is not rushed at."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.errors import ProviderUnavailable

_FIRST_PAUSE = 0.025
_LONGEST_PAUSE = 2.0


class Line:
    """`look(endpoint, tls)` raises unless the member answers; `secure()` gives what TLS needs."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        secure: Callable[[], ssl.SSLContext | None],
        look: Callable[[str, ssl.SSLContext | None], Awaitable[None]],
        explain: Callable[[Exception], ProviderUnavailable],
        catch: tuple[type[Exception], ...],
    ) -> None:
        self._endpoints = endpoints
        self._secure = secure
        self._look = look
        self._explain = explain
        self._catch = catch
        self._number = random.randrange(len(endpoints))  # noqa: S311 - hosts begin at different members
        self._usable = False
        self._failures = 0
        self._attempt: asyncio.Task[None] | None = None
        self.tls: ssl.SSLContext | None = None

    @property
    def where(self) -> str:
        """The present member."""
        return self._endpoints[self._number].partition("://")[2]

    async def take(self) -> str:
        """A member's address. Raises `ProviderUnavailable` after one shared attempt that failed."""
        if not self._usable:
            if self._attempt is None or self._attempt.done():
                self._attempt = asyncio.create_task(self._find(), name="etcd-find-member")
                self._attempt.add_done_callback(seen)
            await asyncio.shield(self._attempt)
        return self._endpoints[self._number]

    def broken(self, endpoint: str) -> None:
        """That member did not answer."""
        if self._usable and endpoint == self._endpoints[self._number]:
            self._usable = False
            self._number = (self._number + 1) % len(self._endpoints)

    async def _find(self) -> None:
        if self._failures:
            longest = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
            await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter
        failure: Exception | None = None
        for _ in self._endpoints:
            try:
                # Reading files of certificates may take a moment.
                self.tls = await asyncio.to_thread(self._secure)
                await self._look(self._endpoints[self._number], self.tls)
            except self._catch as error:
                failure = failure or error
                self._number = (self._number + 1) % len(self._endpoints)
            else:
                self._usable = True
                self._failures = 0
                return
        self._failures = min(self._failures + 1, 16)
        assert failure is not None
        raise self._explain(failure)

    async def close(self) -> None:
        if self._attempt is not None and not self._attempt.done():
            self._attempt.cancel()
            await asyncio.wait({self._attempt})


def seen(task: asyncio.Task[Any]) -> None:
    """The failure of a shared attempt is told to those who wait for it; there may be none left."""
    if not task.cancelled():
        task.exception()
