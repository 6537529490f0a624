"""Which server of several is spoken to. After a failure all callers share one attempt to find one that answers, which
waits a random while that grows, so that servers that come up again are not rushed at."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from perdure.errors import PerdureError, ProviderUnavailable

_FIRST_PAUSE = 0.025
_LONGEST_PAUSE = 2.0
Found = TypeVar("Found")


class Line(Generic[Found]):
    """`look(server, tls)` gives what calls need (a connection), or raises one of `catch`; `secure()` gives what TLS
    needs, anew each time, since certificates are rotated; `translate`: what a failure is to callers."""

    def __init__(
        self,
        servers: tuple[str, ...],
        secure: Callable[[], ssl.SSLContext | None],
        look: Callable[[str, ssl.SSLContext | None], Awaitable[Found]],
        translate: Callable[[Exception], PerdureError],
        catch: tuple[type[Exception], ...],
    ) -> None:
        self._servers = servers
        self._secure = secure
        self._look = look
        self._translate = translate
        self._catch = catch
        self._number = random.randrange(len(servers))  # noqa: S311 - hosts begin at different members
        self._found: Found | None = None
        self._usable = False
        self._failures = 0
        self._attempt: asyncio.Task[None] | None = None
        self.tls: ssl.SSLContext | None = None

    @property
    def where(self) -> str:
        """The present server, without its scheme."""
        return self._servers[self._number].partition("://")[2]

    @property
    def found(self) -> Found | None:
        """What the last look gave."""
        return self._found

    async def take(self) -> tuple[str, Found]:
        """A server's address, and what the look at it gave. Raises `ProviderUnavailable` after one shared attempt that
        failed."""
        if not self._usable:
            if self._attempt is None or self._attempt.done():
                self._attempt = asyncio.create_task(self._find(), name="find-server")
                self._attempt.add_done_callback(seen)
            await asyncio.shield(self._attempt)
        # Some `Found` is None.
        return self._servers[self._number], self._found  # type: ignore[return-value]

    def broken(self, server: str) -> None:
        """That server did not answer."""
        if self._usable and server == self._servers[self._number]:
            self._usable = False
            self._number = (self._number + 1) % len(self._servers)

    async def _find(self) -> None:
        if self._failures:
            longest = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
            await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter
        failure: Exception | None = None
        for _ in self._servers:
            try:
                # Reading files of certificates may take a moment.
                self.tls = await asyncio.to_thread(self._secure)
                self._found = await self._look(self._servers[self._number], self.tls)
            except self._catch as error:
                failure = failure or error
                self._number = (self._number + 1) % len(self._servers)
            else:
                self._usable = True
                self._failures = 0
                return
        self._failures = min(self._failures + 1, 16)
        assert failure is not None
        found = self._translate(failure)
        # Whatever kept a server from being found, it is the server that cannot be used.
        raise found if isinstance(found, ProviderUnavailable) else ProviderUnavailable(found.detail)

    async def close(self) -> None:
        """End an attempt that is under way."""
        if self._attempt is not None and not self._attempt.done():
            self._attempt.cancel()
            await asyncio.wait({self._attempt})


def seen(task: asyncio.Task[Any]) -> None:
    """The failure of a shared attempt is told to those who wait for it; there may be none left."""
    if not task.cancelled():
        task.exception()
