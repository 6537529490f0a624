"""The node of a Redis Cluster that serves one slot (redis.io, "Redis cluster specification").

All keys of a Worker share a slot, so a client of a Worker needs one node only. While the slot moves, the server
answers TRYAGAIN or ASK: each of our functions names keys that need not exist, so neither side can run it before the
move has ended, and following ASK would only be answered TRYAGAIN. Both are waited out.
"""

from __future__ import annotations

import binascii
import random
from typing import cast

from perdure.errors import PerdureError, ProviderUnavailable
from perdure.providers.redis.config import Node, RedisConfig
from perdure.providers.redis.connection import ask
from perdure.providers.redis.failures import none_left
from perdure.providers.redis.routes import Sought

SLOTS = 16384
_PASSING = ("TRYAGAIN", "ASK", "CLUSTERDOWN", "MASTERDOWN")


def slot_of(key: str) -> int:
    """CRC16 (XMODEM) of what stands between the first brace and the next closing one, or of all."""
    start = key.find("{")
    end = key.find("}", start + 1)
    tag = key[start + 1 : end] if start >= 0 and end > start + 1 else key
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


class ClusterRoute(Sought):
    """Implements `Route` for the slot of a key."""

    def __init__(self, config: RedisConfig, key: str) -> None:
        super().__init__()
        self._config = config
        self._slot = slot_of(key)
        self._members: list[Node] = []

    @property
    def where(self) -> str:
        return f"{self._node} (slot {self._slot})" if self._node else f"the cluster of {self._config.node}"

    def redirect(self, word: str, text: str) -> bool:
        if word == "MOVED":
            self._node = self._moved(text)
            return True
        if word == "READONLY":
            self.forget()
            return True
        if word == "CLUSTERDOWN":
            self.forget()
        return word in _PASSING

    async def check(self) -> None:
        """A node that does not serve the slot says so itself."""

    def _moved(self, text: str) -> Node | None:
        """`MOVED slot host:port`; without a host it is the one that answered."""
        parts = text.split(" ")
        host, _, port = parts[2].rpartition(":") if len(parts) == 3 else ("", "", "")
        if not port.isdecimal():
            return None
        host = host or (self._node.host if self._node else self._config.node.host)
        return Node(host, int(port))

    async def _look(self) -> Node:
        """Asks the member that the URL names, or any other that was known: one of them will have survived."""
        members = [self._config.node, *random.sample(self._members, len(self._members))]
        found: list[PerdureError] = []
        for member in dict.fromkeys(members):
            try:
                return self._owner(member, await ask(member, self._config, "CLUSTER", "SLOTS"))
            except PerdureError as error:
                found.append(error)
        raise none_left(f"no member of the cluster names the node of slot {self._slot}", found)

    def _owner(self, member: Node, reply: object) -> Node:
        owner = None
        known: dict[Node, None] = {}
        for first, last, *nodes in cast("list[list[object]]", reply):
            here = [_node(cast("list[object]", node), member) for node in nodes]
            known |= dict.fromkeys(here)
            if cast("int", first) <= self._slot <= cast("int", last) and here:
                owner = here[0]
        self._members = list(known)
        if owner is None:
            raise ProviderUnavailable(f"Redis at {member}: no node serves slot {self._slot}: the cluster is down")
        return owner


def _node(entry: list[object], member: Node) -> Node:
    host = entry[0].decode() if isinstance(entry[0], bytes) else ""
    return Node(host or member.host, int(cast("int", entry[1])))
