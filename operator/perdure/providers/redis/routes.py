"""Which server holds the Worker's data now: the one that the URL names, here; `sentinel` and `cluster` have to ask."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Protocol

from perdure.providers.redis.config import Node, RedisConfig


class Route(Protocol):
    """`where`: the present node, for people. All methods are cheap unless the node has to be looked for."""

    @property
    def where(self) -> str: ...

    async def find(self) -> Node:
        """The node to send to. Raises `ProviderUnavailable`."""

    def forget(self) -> None:
        """The node does not answer, or is no primary: look again at the next `find`."""

    def redirect(self, word: str, text: str) -> bool:
        """The node refused a command with this error, so that it did not take place. True: the same command may
        succeed shortly, there or at the node that `find` gives then."""

    async def check(self) -> None:
        """Find out whether the node is still the right one."""


class Fixed:
    """A single server. What it refuses is the caller's to repeat."""

    def __init__(self, config: RedisConfig) -> None:
        self._node = config.node

    @property
    def where(self) -> str:
        return str(self._node)

    async def find(self) -> Node:
        return self._node

    def forget(self) -> None:
        """There is no other."""

    def redirect(self, word: str, text: str) -> bool:
        return False

    async def check(self) -> None:
        """There is no other."""


class Sought(ABC):
    """A node that has to be looked for: by one caller at a time, for all of them."""

    def __init__(self) -> None:
        self._node: Node | None = None
        self._lock = asyncio.Lock()

    async def find(self) -> Node:
        if self._node is None:
            async with self._lock:
                if self._node is None:
                    self._node = await self._look()
        return self._node

    def forget(self) -> None:
        self._node = None

    @abstractmethod
    async def _look(self) -> Node:
        """Raises `ProviderUnavailable`."""
