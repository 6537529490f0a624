"""Whether hosts can keep their file in a directory, told without making or upgrading that file."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from urllib.parse import quote

from perdure.durable.records import ProviderInfo
from perdure.errors import ProviderUnavailable
from perdure.providers.sqlite.schema import VERSION, connect

_BUSY = 5.0


def look(path: Path) -> ProviderInfo:
    """Blocks. `path`: of the file. Raises `ProviderUnavailable` with the reason."""
    try:
        settings = _present(path) if path.exists() else _scratch(path)
    except OSError as error:
        raise ProviderUnavailable(f"nothing can be written to {path}: {error.strerror}") from error
    return ProviderInfo("sqlite", sqlite3.sqlite_version, "D2", settings=settings)


def _present(path: Path) -> tuple[tuple[str, str], ...]:
    """The write lock proves that the file can be written; nothing is."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY)
        try:
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("ROLLBACK")
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ProviderUnavailable(f"the SQLite file {path} cannot be written: {error}") from error
    if version > VERSION:
        raise ProviderUnavailable(
            f"the SQLite file {path} was written by a newer Perdure (schema {version}, this is {VERSION})",
            cause="unsuitable",
        )
    return ("journal_mode", str(mode)), ("synchronous", "full")


def _scratch(path: Path) -> tuple[tuple[str, str], ...]:
    """Where there is none yet, a file of another name is made there and removed again."""
    directory = next(parent for parent in path.absolute().parents if parent.exists())
    with tempfile.TemporaryDirectory(prefix=".perdure-probe-", dir=directory) as scratch:
        connection = connect(Path(scratch) / "probe.sqlite", writer=True)
        try:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        finally:
            connection.close()
    return ("journal_mode", str(mode)), ("synchronous", "full")
