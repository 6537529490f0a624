"""How to reach a PostgreSQL server."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from perdure.errors import ProviderUnavailable

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")


def _anonymous() -> tuple[str | None, str | None]:
    return None, None


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """`url`: postgresql://host:port/database; of several hosts (host1:port,host2:port) the one that takes writes is
    used. `credentials` is asked at each connect for (username, password); what it leaves out the URL may hold.
    `tls`: encrypted, and the server's certificate is checked against `ca` (None: the system's authorities).
    `timeout` in seconds, for each operation. `schema`: where the tables are; hosts that share it share the data.

    Raises `ProviderUnavailable` for what can never work.
    """

    url: str
    credentials: Callable[[], tuple[str | None, str | None]] = field(default=_anonymous, repr=False)
    tls: bool = False
    ca: Path | None = None
    timeout: float = 2.0
    connections: int = 8
    schema: str = "perdure"

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("postgresql", "postgres"):
            raise ProviderUnavailable("the URL of a PostgreSQL server must be postgresql://host:port/database")
        if not _SCHEMA.match(self.schema) or self.schema.startswith("pg_"):
            raise ProviderUnavailable(
                f"{self.schema!r} cannot be PostgreSQL's schema: it must have 1 to 63 letters a-z, digits and _, "
                "begin with no digit and not with pg_"
            )

    @property
    def where(self) -> str:
        """The hosts and the database, without credentials."""
        parts = urlsplit(self.url)
        return parts.netloc.rpartition("@")[2] + parts.path
