"""The tables. Names and keys are BLOBs of UTF-8, so that any character is safe and order is byte order."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from perdure.errors import ProviderUnavailable

VERSION = 2
_BUSY_MS = 5000
_TABLES = """
CREATE TABLE IF NOT EXISTS instances (
    worker BLOB NOT NULL, name BLOB NOT NULL,
    epoch INTEGER NOT NULL, nonce TEXT NOT NULL, host TEXT NOT NULL, sequence INTEGER NOT NULL,
    life TEXT NOT NULL,
    PRIMARY KEY (worker, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    worker BLOB NOT NULL, instance BLOB NOT NULL, sequence INTEGER NOT NULL,
    entry BLOB NOT NULL, unapplied INTEGER NOT NULL,
    PRIMARY KEY (worker, instance, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    worker BLOB NOT NULL, instance BLOB NOT NULL, key BLOB NOT NULL,
    fingerprint BLOB NOT NULL, body BLOB NOT NULL, sequence INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    PRIMARY KEY (worker, instance, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_by_age ON results (worker, instance, sequence);
CREATE TABLE IF NOT EXISTS entries (
    owner BLOB NOT NULL, bucket BLOB NOT NULL, instance BLOB NOT NULL, key BLOB NOT NULL,
    value BLOB NOT NULL, expires_ms INTEGER,
    PRIMARY KEY (owner, bucket, instance, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS foreign_marks (
    worker BLOB NOT NULL, origin BLOB NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (worker, origin)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hosts (
    worker BLOB NOT NULL, host TEXT NOT NULL, url TEXT NOT NULL, expires_ms INTEGER NOT NULL,
    PRIMARY KEY (worker, host)) WITHOUT ROWID;
"""
# From each older version to the next. Before version 2 an instance had one life only.
_UPGRADES = {1: "ALTER TABLE instances ADD COLUMN life TEXT NOT NULL DEFAULT ''"}


def connect(path: Path, *, writer: bool) -> sqlite3.Connection:
    """A connection in WAL mode with synchronous=FULL: a commit is on disk when it returns.

    Raises `ProviderUnavailable` when the file cannot be opened or is of a newer version.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        if writer:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            _create(connection)
        return connection
    except sqlite3.Error as error:
        raise ProviderUnavailable(f"the SQLite file {path} cannot be opened: {error}") from error


def _create(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > VERSION:
        raise ProviderUnavailable(f"the SQLite file was written by a newer Perdure (schema {found}, this is {VERSION})")
    connection.execute("BEGIN IMMEDIATE")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    for version in range(found or VERSION, VERSION):
        connection.execute(_UPGRADES[version])
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
