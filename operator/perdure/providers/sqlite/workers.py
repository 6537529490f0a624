"""What belongs to a Worker as a whole: its hosts, its components, and its end."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from perdure.durable.records import HostRecord
from perdure.providers.sqlite import feeds
from perdure.providers.sqlite.owner import Owner

_TABLES = (
    ("entries", "owner", "owner, instance, bucket, key"),
    ("journal", "worker", "worker, instance, sequence"),
    ("unapplied", "worker", "worker, instance, sequence"),
    ("snapshots", "worker", "worker, instance, sequence"),
    ("blobs", "worker", "worker, instance, digest"),
    ("results", "worker", "worker, instance, key"),
    ("inbox", "worker", "number"),
    ("due", "worker", "worker, instance"),
    ("instances", "worker", "worker, name"),
    ("foreign_marks", "worker", "worker, origin"),
    ("hosts", "worker", "worker, host"),
    ("components", "worker", "worker, digest"),
    ("identities", "worker", "worker"),
)


def announce(db: sqlite3.Connection, owner: Owner, record: HostRecord, ttl_ms: int, now_ms: int) -> list[HostRecord]:
    db.execute("DELETE FROM hosts WHERE worker=? AND expires_ms <= ?", (owner.worker, now_ms))
    db.execute(
        "INSERT OR REPLACE INTO hosts VALUES (?,?,?,?)", (owner.worker, record.host, record.url, now_ms + ttl_ms)
    )
    rows = db.execute("SELECT host, url FROM hosts WHERE worker=?", (owner.worker,)).fetchall()
    return [HostRecord(host, url) for host, url in rows]


def leave(db: sqlite3.Connection, owner: Owner, host: str) -> None:
    db.execute("DELETE FROM hosts WHERE worker=? AND host=?", (owner.worker, host))


def keep_component(db: sqlite3.Connection, owner: Owner, digest: str, data: bytes, spared: Sequence[str]) -> None:
    db.execute(
        "INSERT INTO components VALUES (?,?,?) "
        "ON CONFLICT DO UPDATE SET data=excluded.data WHERE data != excluded.data",
        (owner.worker, digest, data),
    )
    db.execute(
        "DELETE FROM components WHERE worker=? AND digest NOT IN (SELECT value FROM json_each(?)) AND NOT EXISTS "
        "(SELECT 1 FROM instances i WHERE i.worker=components.worker AND i.component=components.digest)",
        (owner.worker, json.dumps([digest, *spared])),
    )


def component(db: sqlite3.Connection, owner: Owner, digest: str) -> bytes | None:
    row = db.execute("SELECT data FROM components WHERE worker=? AND digest=?", (owner.worker, digest)).fetchone()
    return row[0] if row else None


def components(db: sqlite3.Connection, owner: Owner) -> dict[str, int]:
    return dict(
        db.execute(
            "SELECT component, count(*) FROM instances WHERE worker=? AND component > '' GROUP BY component",
            (owner.worker,),
        ).fetchall()
    )


def purge_some(db: sqlite3.Connection, owner: Owner, limit: int, now_ms: int) -> int:
    """Delete up to `limit` rows of each table; 0: nothing is left."""
    removed = 0
    for watch in feeds.watches(db, owner, now_ms):
        feeds.unwatch(db, owner, watch.bucket, 0, now_ms)
        removed += 1
    for table, column, keys in _TABLES:
        statement = f"DELETE FROM {table} WHERE ({keys}) IN (SELECT {keys} FROM {table} WHERE {column}=? LIMIT ?)"
        removed += db.execute(statement, (owner.worker, limit)).rowcount
    return removed
