"""Reading instances, and deleting one. Every function sees one state of the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from perdure.durable.records import (
    InstanceData,
    InstanceInfo,
    InstancePage,
    JournalPage,
    JournalRecord,
    OwnerToken,
    Parting,
    SnapshotChain,
)
from perdure.providers.sqlite.buckets import apply_effects
from perdure.providers.sqlite.owner import Owner, private, require_owner

_OF = "WHERE worker=? AND instance=?"
_DIGESTS_A_QUERY = 500
# Where an instance's rows are, but for its row in `instances`.
_PARTS = ("journal", "unapplied", "snapshots", "blobs", "results", "inbox", "due")


def read_data(db: sqlite3.Connection, owner: Owner, instance: str) -> InstanceData | None:
    place = (owner.worker, instance.encode())
    row = db.execute("SELECT life, sequence, open, halt FROM instances WHERE worker=? AND name=?", place).fetchone()
    if row is None:
        return None
    life, sequence, unfinished, halt = row
    parts = db.execute(f"SELECT sequence, data FROM snapshots {_OF} ORDER BY sequence", place).fetchall()
    journal = db.execute(f"SELECT entry, outcomes FROM journal {_OF} ORDER BY sequence", place)
    unapplied = db.execute(f"SELECT sequence FROM unapplied {_OF} ORDER BY sequence", place)
    return InstanceData(
        life=life,
        sequence=sequence,
        snapshot=SnapshotChain(parts[-1][0], [data for _, data in parts]) if parts else None,
        journal=[JournalRecord(entry, outcomes) for entry, outcomes in journal],
        blobs=dict(db.execute(f"SELECT digest, data FROM blobs {_OF}", place).fetchall()),
        unapplied=[number for (number,) in unapplied],
        open=bool(unfinished),
        halt=halt,
    )


def peek(db: sqlite3.Connection, owner: Owner, instance: str) -> InstanceData | None:
    data = read_data(db, owner, instance)
    return data if data is not None and data.sequence else None


def info(db: sqlite3.Connection, owner: Owner, instance: str) -> InstanceInfo | None:
    place = (owner.worker, instance.encode())
    row = db.execute(
        "SELECT sequence, epoch, nonce, host, component, halt FROM instances WHERE worker=? AND name=?", place
    ).fetchone()
    (pending,) = db.execute(f"SELECT count(*) FROM inbox {_OF}", place).fetchone()
    # An instance that nobody has claimed yet may have calls waiting.
    sequence, epoch, nonce, host, component, halt = row or (0, 0, "", "", "", None)
    entries, size = db.execute(f"SELECT count(*), coalesce(sum(length(entry)), 0) FROM journal {_OF}", place).fetchone()
    parts, reached, held = db.execute(
        f"SELECT count(*), coalesce(max(sequence), 0), coalesce(sum(length(data)), 0) FROM snapshots {_OF}", place
    ).fetchone()
    # One that has records without the count of them has lost it: it can still be reset, or deleted.
    if not (sequence or pending or halt is not None or entries or parts):
        return None
    listed = db.execute(f"SELECT 1 FROM due {_OF}", place).fetchone() is not None
    return InstanceInfo(
        name=instance,
        sequence=sequence,
        token=OwnerToken(epoch, nonce),
        host=host,
        component=component,
        journal_entries=entries,
        journal_bytes=size,
        snapshot_sequence=reached,
        snapshot_parts=parts,
        snapshot_bytes=held,
        pending=pending,
        halt=halt,
        listed=listed,
    )


def names(db: sqlite3.Connection, owner: Owner, cursor: str | None, limit: int) -> InstancePage:
    after = b"" if cursor is None else cursor.encode()
    comparison = ">=" if cursor is None else ">"
    rows = db.execute(
        f"SELECT name FROM instances WHERE worker=? AND name {comparison} ? AND sequence > 0 ORDER BY name LIMIT ?",
        (owner.worker, after, limit + 1),
    ).fetchall()
    found = [bytes(row[0]).decode() for row in rows]
    return InstancePage(found[:limit], found[limit - 1] if len(found) > limit else None)


def journal(db: sqlite3.Connection, owner: Owner, instance: str, after: int, limit: int) -> JournalPage | None:
    place = (owner.worker, instance.encode())
    row = db.execute("SELECT sequence FROM instances WHERE worker=? AND name=? AND sequence > 0", place).fetchone()
    if row is None:
        return None
    (oldest,) = db.execute(f"SELECT min(sequence) FROM journal {_OF}", place).fetchone()
    trimmed = row[0] if oldest is None else oldest - 1
    start = max(after, trimmed)
    rows = db.execute(
        f"SELECT entry, outcomes FROM journal {_OF} AND sequence > ? ORDER BY sequence LIMIT ?", (*place, start, limit)
    )
    return JournalPage(start + 1, [JournalRecord(entry, outcomes) for entry, outcomes in rows], trimmed, row[0])


def blobs(db: sqlite3.Connection, owner: Owner, instance: str, digests: Sequence[bytes]) -> list[bytes | None]:
    place = (owner.worker, instance.encode())
    found: dict[bytes, bytes] = {}
    for start in range(0, len(digests), _DIGESTS_A_QUERY):
        some = digests[start : start + _DIGESTS_A_QUERY]
        marks = ",".join("?" * len(some))
        found.update(
            db.execute(f"SELECT digest, data FROM blobs {_OF} AND digest IN ({marks})", (*place, *some)).fetchall()
        )
    return [found.get(digest) for digest in digests]


def delete(db: sqlite3.Connection, owner: Owner, instance: str, parting: Parting | None, now_ms: int) -> bool:
    place = (owner.worker, instance.encode())
    if parting is not None:
        if db.execute("SELECT 1 FROM instances WHERE worker=? AND name=? AND epoch > 0", place).fetchone() is None:
            return False
        require_owner(db, owner, instance, parting.token)
        apply_effects(db, owner, parting.effects, now_ms, None)
    there = info(db, owner, instance) is not None
    db.execute("DELETE FROM instances WHERE worker=? AND name=?", place)
    for table in _PARTS:
        db.execute(f"DELETE FROM {table} {_OF}", place)
    db.execute("DELETE FROM entries WHERE owner=? AND instance=?", (owner.worker, private(instance)))
    return there
