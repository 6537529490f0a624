"""The primary as Sentinels know it (redis.io, "Sentinel clients").

A Sentinel's word is checked: the server that it names must call itself a primary, for a Sentinel that was cut off may
name one that is none any more.
"""

from __future__ import annotations

import random

from perdure.errors import PerdureError, ProviderUnavailable
from perdure.providers.redis.config import Node, RedisConfig, Sentinels
from perdure.providers.redis.connection import ask
from perdure.providers.redis.failures import none_left
from perdure.providers.redis.routes import Sought


class SentinelRoute(Sought):
    """Implements `Route`. The Sentinel that answered last is asked first."""

    def __init__(self, config: RedisConfig, sentinels: Sentinels) -> None:
        super().__init__()
        self._config = config
        self._name = sentinels.master_name
        self._credentials = sentinels.credentials
        self._sentinels = sentinels.nodes
        # Not all hosts ask the same one first.
        random.shuffle(self._sentinels)

    @property
    def where(self) -> str:
        return f"{self._node} (primary {self._name})" if self._node else f"primary {self._name}"

    def redirect(self, word: str, text: str) -> bool:
        if word == "READONLY":
            self.forget()
            return True
        return False

    async def check(self) -> None:
        """After a failover the former primary may still be up, and cut off from the others."""
        self._node = await self._look()

    async def _look(self) -> Node:
        found: list[PerdureError] = []
        for sentinel in list(self._sentinels):
            try:
                node = await self._ask(sentinel)
            except PerdureError as error:
                found.append(error)
                continue
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return node
        raise none_left(f"no Sentinel names a usable primary {self._name!r}", found)

    async def _ask(self, sentinel: Node) -> Node:
        reply = await ask(
            sentinel,
            self._config,
            "SENTINEL",
            "GET-MASTER-ADDR-BY-NAME",
            self._name,
            credentials=self._credentials,
        )
        if not isinstance(reply, list) or len(reply) != 2:
            raise ProviderUnavailable(f"the Sentinel at {sentinel} knows no primary {self._name!r}: see masterName")
        node = Node(reply[0].decode(), int(reply[1]))
        role = await ask(node, self._config, "ROLE")
        if not isinstance(role, list) or not role or role[0] != b"master":
            raise ProviderUnavailable(f"the Sentinel at {sentinel} names {node}, which is no primary")
        return node
