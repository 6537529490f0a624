"""How to reach a Redis server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


def _anonymous() -> tuple[str | None, str | None]:
    return None, None


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """`credentials` is asked at each connect for (username, password). `timeout` in seconds, for each command."""

    url: str
    credentials: Callable[[], tuple[str | None, str | None]] = field(default=_anonymous, repr=False)
    tls: bool = False
    ca: Path | None = None
    timeout: float = 2.0
    connections: int = 8
