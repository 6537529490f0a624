"""The SQLite provider: durability D2 in one file, no server."""

from perdure.providers.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
