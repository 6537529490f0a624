"""The PostgreSQL provider (13 or newer): durability D0 to D4 as the server is configured."""

from perdure.providers.postgres.config import PostgresConfig
from perdure.providers.postgres.store import PostgresStore

__all__ = ["PostgresConfig", "PostgresStore"]
