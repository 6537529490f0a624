"""Deleting instances: at home now, at other providers now or as soon as they can be reached.

Every host looks from time to time for what deletions have left to do, and carries out what is of its own instances; two
that do are no harm (`perdure.durable.departing`).
"""

from __future__ import annotations

import asyncio
import logging
import random

from perdure.durable.departing import clear, delete_instance, departed
from perdure.durable.environment import EngineEnvironment
from perdure.errors import NoSuchInstance, PerdureError
from perdure.host.dispatcher import Members
from perdure.host.metrics import HostMetrics
from perdure.host.routing import is_preferred

log = logging.getLogger(__name__)
_PATIENCE = 5.0
_INTERVAL = 30.0
_PAGE = 20
_LONGEST = 60.0
"""Seconds for one instance at a time: one that has very much elsewhere must not keep the others waiting."""


class Deletions:
    """`run()` as a task."""

    def __init__(
        self,
        environment: EngineEnvironment,
        members: Members,
        metrics: HostMetrics,
        *,
        interval: float = _INTERVAL,
        patience: float = _PATIENCE,
    ) -> None:
        """`patience`: seconds for which whoever deletes waits for other providers."""
        self._environment = environment
        self._members = members
        self._metrics = metrics
        self._interval = interval
        self._patience = patience
        self._failed: set[str] = set()

    async def delete(self, name: str) -> bool:
        """Whether nothing is left of it; else what is left elsewhere is noted, and will be deleted.

        Raises `NoSuchInstance`, `ProviderUnavailable`, `Fenced`.
        """
        if not await delete_instance(name, self._environment):
            raise NoSuchInstance(f"there is no instance {name!r}")
        return await self._clear(name, self._patience)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._interval * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            try:
                await self.look()
            except PerdureError as error:
                log.info(
                    "what deletions have left cannot be looked at: %s", error, extra={"fields": {"code": error.code}}
                )

    async def look(self) -> None:
        """Once. Raises `ProviderUnavailable` where the home store does not answer."""
        waiting: set[str] = set()
        cursor = None
        while True:
            names, cursor = await departed(self._environment.home, cursor, _PAGE)
            waiting |= {name for name in names if self._mine(name) and not await self._clear(name, _LONGEST)}
            if cursor is None:
                break
        self._failed &= waiting
        self._metrics.deletions_waiting.set(len(waiting))

    async def _clear(self, name: str, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await clear(name, self._environment)
        except (PerdureError, TimeoutError) as error:
            first = name not in self._failed
            self._failed.add(name)
            why = f"it takes longer than {seconds} s" if isinstance(error, TimeoutError) else str(error)
            level = logging.WARNING if first else logging.DEBUG
            log.log(level, "what a deleted instance has elsewhere waits: %s", why, extra={"fields": {"instance": name}})
            return False
        self._failed.discard(name)
        return True

    def _mine(self, name: str) -> bool:
        return is_preferred(self._members.me, name, self._members.hosts)
