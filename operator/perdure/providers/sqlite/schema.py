"""The tables. Names and keys are BLOBs of UTF-8, so that any character is safe and order is byte order.

`base`: the sequence when the present token was given; what is above it was applied under this very token.
`due`: one row for each instance that has something to do, 0 where it has since its last commit.
`feeds`, `watches`, `changes`: of buckets that are watched; `held` changes of `bytes`, those of the table.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from perdure.errors import ProviderUnavailable

VERSION = 4
_OLDEST_SQLITE = (3, 35)
_BUSY_MS = 5000
_PAUSE = 0.005
_TABLES = """
CREATE TABLE IF NOT EXISTS instances (
    worker BLOB NOT NULL, name BLOB NOT NULL,
    epoch INTEGER NOT NULL, nonce TEXT NOT NULL, host TEXT NOT NULL, sequence INTEGER NOT NULL,
    life TEXT NOT NULL,
    previous TEXT, base INTEGER NOT NULL DEFAULT 0, open INTEGER NOT NULL DEFAULT 0,
    component TEXT NOT NULL DEFAULT '', halt BLOB,
    PRIMARY KEY (worker, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS instances_by_component ON instances (worker, component);
CREATE TABLE IF NOT EXISTS journal (
    worker BLOB NOT NULL, instance BLOB NOT NULL, sequence INTEGER NOT NULL,
    entry BLOB NOT NULL, outcomes BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (worker, instance, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unapplied (
    worker BLOB NOT NULL, instance BLOB NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (worker, instance, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (
    worker BLOB NOT NULL, instance BLOB NOT NULL, sequence INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (worker, instance, sequence));
CREATE TABLE IF NOT EXISTS blobs (
    worker BLOB NOT NULL, instance BLOB NOT NULL, digest BLOB NOT NULL, last INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (worker, instance, digest));
CREATE INDEX IF NOT EXISTS blobs_by_last ON blobs (worker, instance, last);
CREATE TABLE IF NOT EXISTS results (
    worker BLOB NOT NULL, instance BLOB NOT NULL, key BLOB NOT NULL,
    fingerprint BLOB NOT NULL, body BLOB NOT NULL, sequence INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    PRIMARY KEY (worker, instance, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_by_age ON results (worker, instance, sequence);
CREATE TABLE IF NOT EXISTS inbox (
    number INTEGER PRIMARY KEY, worker BLOB NOT NULL, instance BLOB NOT NULL, key BLOB NOT NULL,
    fingerprint BLOB NOT NULL, payload BLOB NOT NULL, due_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, begun INTEGER NOT NULL DEFAULT 0, failure BLOB NOT NULL DEFAULT x'');
CREATE UNIQUE INDEX IF NOT EXISTS inbox_by_key ON inbox (worker, instance, key);
CREATE INDEX IF NOT EXISTS inbox_in_order ON inbox (worker, instance, due_ms, number);
CREATE TABLE IF NOT EXISTS due (
    worker BLOB NOT NULL, instance BLOB NOT NULL, due_ms INTEGER NOT NULL,
    PRIMARY KEY (worker, instance)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due_in_order ON due (worker, due_ms, instance);
CREATE TABLE IF NOT EXISTS entries (
    owner BLOB NOT NULL, instance BLOB NOT NULL, bucket BLOB NOT NULL, key BLOB NOT NULL,
    value BLOB NOT NULL, expires_ms INTEGER,
    PRIMARY KEY (owner, instance, bucket, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS feeds (
    owner BLOB NOT NULL, bucket BLOB NOT NULL, life TEXT NOT NULL,
    max_changes INTEGER NOT NULL, max_bytes INTEGER NOT NULL,
    last INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (owner, bucket)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS watches (
    owner BLOB NOT NULL, bucket BLOB NOT NULL, worker BLOB NOT NULL, scope TEXT NOT NULL,
    instance BLOB NOT NULL, writer BLOB NOT NULL, reached INTEGER NOT NULL, renewed_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, bucket, worker)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS watches_by_worker ON watches (worker);
CREATE TABLE IF NOT EXISTS changes (
    owner BLOB NOT NULL, bucket BLOB NOT NULL, number INTEGER NOT NULL,
    writer BLOB NOT NULL, key BLOB NOT NULL, value BLOB,
    PRIMARY KEY (owner, bucket, number));
CREATE TABLE IF NOT EXISTS foreign_marks (
    worker BLOB NOT NULL, origin BLOB NOT NULL, sequence INTEGER NOT NULL, outcomes BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (worker, origin)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hosts (
    worker BLOB NOT NULL, host TEXT NOT NULL, url TEXT NOT NULL, expires_ms INTEGER NOT NULL,
    PRIMARY KEY (worker, host)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS components (
    worker BLOB NOT NULL, digest TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (worker, digest));
CREATE TABLE IF NOT EXISTS identities (
    worker BLOB NOT NULL PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
"""
# What makes the next version's tables of each older version's: (before the tables above are made, after it).
# Version 1: an instance had one life only. Version 2: entries were not ordered by instance, so deleting an
# instance read all of a Worker's; a journal's row said itself whether its effects were unapplied. Version 3: buckets
# could not be watched.
_UPGRADES = {
    1: ("ALTER TABLE instances ADD COLUMN life TEXT NOT NULL DEFAULT ''", ""),
    2: (
        """
        ALTER TABLE instances ADD COLUMN previous TEXT;
        ALTER TABLE instances ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE instances ADD COLUMN open INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE instances ADD COLUMN component TEXT NOT NULL DEFAULT '';
        ALTER TABLE instances ADD COLUMN halt BLOB;
        ALTER TABLE foreign_marks ADD COLUMN outcomes BLOB NOT NULL DEFAULT x'';
        DROP INDEX entries_by_expiry;
        ALTER TABLE entries RENAME TO entries_2;
        ALTER TABLE journal RENAME TO journal_2
        """,
        """
        INSERT INTO entries SELECT owner, instance, bucket, key, value, expires_ms FROM entries_2;
        DROP TABLE entries_2;
        INSERT INTO journal (worker, instance, sequence, entry) SELECT worker, instance, sequence, entry FROM journal_2;
        INSERT INTO unapplied SELECT worker, instance, sequence FROM journal_2 WHERE unapplied;
        INSERT INTO due SELECT DISTINCT worker, instance, 0 FROM unapplied;
        DROP TABLE journal_2
        """,
    ),
    3: ("", ""),
}


def connect(path: Path, *, writer: bool) -> sqlite3.Connection:
    """A connection in WAL mode with synchronous=FULL: a commit is on disk when it returns.

    Raises `ProviderUnavailable` when the file cannot be opened or is of a newer version.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        wanted = ".".join(map(str, _OLDEST_SQLITE))
        raise ProviderUnavailable(f"this Python has SQLite {sqlite3.sqlite_version}; {wanted} or newer is needed")
    connection = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        if writer:
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=FULL")
            _create(connection)
        return connection
    except (sqlite3.Error, ProviderUnavailable) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, ProviderUnavailable):
            raise
        raise ProviderUnavailable(f"the SQLite file {path} cannot be opened: {error}") from error


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Several processes may find a new file at once. SQLite does not wait by itself for who looks at it meanwhile."""
    until = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
        time.sleep(_PAUSE)


def _create(connection: sqlite3.Connection) -> None:
    """Bring the file to VERSION in one transaction, whichever process comes first."""
    connection.execute("BEGIN IMMEDIATE")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > VERSION:
        raise ProviderUnavailable(
            f"the SQLite file was written by a newer Perdure (schema {found}, this is {VERSION})", cause="unsuitable"
        )
    pending = [_UPGRADES[version] for version in range(found or VERSION, VERSION)]
    for before, _ in pending:
        _run(connection, before)
    _run(connection, _TABLES)
    for _, after in pending:
        _run(connection, after)
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")


def _run(connection: sqlite3.Connection, statements: str) -> None:
    # executescript would end the transaction.
    for statement in statements.split(";"):
        connection.execute(statement)
