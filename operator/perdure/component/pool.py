"""Instances kept ready, so that a new one costs its caller nothing of what instantiation does.

Only a component whose start asks nothing of the host can be started before it is known for whom. Whether it does shows
at the first try; then the pool stays empty, and callers instantiate for themselves. A pooled instance is as fresh as
any other: nothing of a former caller is ever put back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from perdure.component.instance import Instance, InstanceLimits
from perdure.component.traps import HostTrap

if TYPE_CHECKING:
    from perdure.component.component import BoundComponent

log = logging.getLogger(__name__)
_START_SECONDS = 30.0


class _Nobody:
    """The context of an instance that nobody has taken yet: a host function that looks at it ends the start."""

    def __getattr__(self, name: str) -> NoReturn:
        raise HostTrap("the component calls its host while it starts")


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """`ready`: instances waiting; `taken`: handed out so far; `missed`: asked for while none was ready."""

    ready: int
    taken: int
    missed: int


class InstancePool:
    """Keeps up to `size` instances of a component ready while `run` runs. For one event loop."""

    def __init__(self, bound: BoundComponent, limits: InstanceLimits, *, size: int) -> None:
        self.bound = bound
        self.limits = limits
        self._size = size
        self._ready: deque[Instance] = deque()
        self._wanted = asyncio.Event()
        self._taken = self._missed = 0

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(len(self._ready), self._taken, self._missed)

    async def instantiate(self, context: object, *, deadline: float | None = None) -> Instance:
        """A fresh instance for `context`, from the pool where one is ready. Raises as `BoundComponent.instantiate`."""
        if not self._ready:
            self._missed += 1
            return await self.bound.instantiate(context, limits=self.limits, deadline=deadline)
        instance = self._ready.popleft()
        self._taken += 1
        self._wanted.set()
        instance.host_context = context
        return instance

    async def run(self) -> None:
        """Fill the pool, and again whenever one was taken. Ends by itself where nothing can be kept ready."""
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while self._size > 0:
            while len(self._ready) < self._size:
                try:
                    made = await self.bound.instantiate(_Nobody(), limits=self.limits, deadline=deadline)
                except Exception as error:  # noqa: BLE001 - host functions were called for nobody; callers see what is wrong
                    log.debug("no instances are kept ready: %s: %s", type(error).__name__, error)
                    return
                self._ready.append(made)
                # Whoever waits for the event loop goes first.
                await asyncio.sleep(0)
            self._wanted.clear()
            await self._wanted.wait()
            deadline = asyncio.get_running_loop().time() + _START_SECONDS

    def close(self) -> None:
        """Free what is ready. Idempotent."""
        while self._ready:
            self._ready.popleft().close()
