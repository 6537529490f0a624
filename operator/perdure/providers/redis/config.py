"""How to reach Redis: one server, the primary that Sentinels name, or a Redis Cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

Credentials = Callable[[], tuple[str | None, str | None]]
"""(username, password), asked at each connect, so that a rotated Secret is used without a restart."""


def _anonymous() -> tuple[str | None, str | None]:
    return None, None


@dataclass(frozen=True, slots=True)
class Node:
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Who knows the primary. `urls`: `redis://host:26379` each; `credentials`: the Sentinels' own, not the server's."""

    master_name: str
    urls: tuple[str, ...]
    credentials: Credentials = field(default=_anonymous, repr=False)

    @property
    def nodes(self) -> list[Node]:
        return [node_of(url, 26379) for url in self.urls]


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """`url`: `redis://host:port/database`: the server, or with `cluster` any member of the cluster. With `sentinels`
    only its database counts. `timeout` in seconds: for a connection to be made, and for a server's silence.
    `wait_replicas`: how many replicas must hold a write before it is acknowledged (durability D3).
    """

    url: str
    credentials: Credentials = field(default=_anonymous, repr=False)
    tls: bool = False
    ca: Path | None = None
    timeout: float = 2.0
    connections: int = 8
    sentinels: Sentinels | None = None
    cluster: bool = False
    wait_replicas: int = 0

    @property
    def node(self) -> Node:
        return node_of(self.url, 6379)

    @property
    def database(self) -> int:
        path = urlsplit(self.url).path.strip("/")
        return int(path) if path else 0

    def login(self) -> tuple[str | None, str | None]:
        """What `credentials` gives, or what the URL holds."""
        username, password = self.credentials()
        parts = urlsplit(self.url)
        if password is None and parts.password is not None:
            return unquote(parts.username or "") or None, unquote(parts.password)
        return username, password


def node_of(url: str, port: int) -> Node:
    parts = urlsplit(url)
    return Node(parts.hostname or "localhost", parts.port or port)
