"""The live hosts of this Worker, found through the home store.

Each host announces itself every `interval` seconds for `ttl` seconds and learns of the others by the same round
trip. While the store does not answer, the last known membership stays in force: fencing, not membership, is what
keeps instances safe.
"""

from __future__ import annotations

import asyncio
import logging

from perdure.durable.records import HostRecord
from perdure.durable.store import Store
from perdure.errors import PerdureError

log = logging.getLogger(__name__)


class Membership:
    """Announces `me` and keeps `hosts`. Run `run()` as a task; `leave()` before the process ends."""

    def __init__(self, store: Store, me: HostRecord, *, interval: float = 1.0, ttl: float = 5.0) -> None:
        self.me = me
        self._store = store
        self._interval = interval
        self._ttl_ms = int(ttl * 1000)
        self._hosts: tuple[HostRecord, ...] = (me,)
        self._leaving = False
        self.failure: str | None = None

    @property
    def hosts(self) -> tuple[HostRecord, ...]:
        """The hosts that may be sent work, this one included unless it is leaving."""
        return self._hosts

    @property
    def leaving(self) -> bool:
        """This host has withdrawn; others may not have noticed yet."""
        return self._leaving

    async def announce(self) -> None:
        """One announcement. Raises what the store raises."""
        if self._leaving:
            return
        found = await self._store.announce(self.me, self._ttl_ms)
        if not self._leaving:
            # A record under this host's own address is of a process that was killed and replaced by this one.
            others = [record for record in found if record.url != self.me.url]
            self._hosts = (self.me, *others)
        self.failure = None

    async def run(self) -> None:
        """Announce for ever."""
        while True:
            try:
                await self.announce()
            except PerdureError as error:
                if self.failure is None:
                    log.warning("the membership could not be refreshed: %s", error)
                self.failure = error.detail
            await asyncio.sleep(self._interval)

    async def leave(self) -> None:
        """Withdraw: other hosts take over from the next refresh on. Failure is only logged: the ttl does the rest."""
        self._leaving = True
        self._hosts = tuple(record for record in self._hosts if record.host != self.me.host)
        try:
            await self._store.leave(self.me.host)
        except PerdureError as error:
            log.warning("could not withdraw from the membership, it expires by itself: %s", error)
