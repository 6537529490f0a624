"""Results under idempotency keys. One past its retention is as good as gone, whether or not it was cleared away."""

from __future__ import annotations

import sqlite3

from perdure.durable.records import Commit, StoredResult
from perdure.providers.sqlite.owner import Owner

_PRUNED_PER_COMMIT = 100
_END_OF_TIME = 1 << 62


def find(db: sqlite3.Connection, owner: Owner, instance: str, key: str, now_ms: int) -> StoredResult | None:
    row = db.execute(
        "SELECT fingerprint, body FROM results WHERE worker=? AND instance=? AND key=? AND expires_ms > ?",
        (owner.worker, instance.encode(), key.encode(), now_ms),
    ).fetchone()
    return StoredResult(key, row[0], row[1]) if row else None


def keep(db: sqlite3.Connection, owner: Owner, commit: Commit, result: StoredResult, now_ms: int) -> None:
    """Store it, and drop those past their retention or over the bound."""
    name = commit.instance.encode()
    expires_ms = min(now_ms + commit.result_retention_ms, _END_OF_TIME)
    db.execute(
        "INSERT OR REPLACE INTO results VALUES (?,?,?,?,?,?,?)",
        (owner.worker, name, result.key.encode(), result.fingerprint, result.body, commit.sequence, expires_ms),
    )
    _prune(db, owner, name, commit, now_ms)


def _prune(db: sqlite3.Connection, owner: Owner, name: bytes, commit: Commit, now_ms: int) -> None:
    """The oldest first, a bounded number a commit.

    Counting reads every result, so it is done where there may be too many only, and then a hundredth more is dropped.
    """
    most, over = commit.max_results, 0
    first, expires = db.execute(
        "SELECT sequence, expires_ms FROM results WHERE worker=? AND instance=? ORDER BY sequence LIMIT 1",
        (owner.worker, name),
    ).fetchone()
    # A commit stores one result at most: there are no more than there were commits since the oldest one's.
    if commit.sequence - first >= most:
        (held,) = db.execute(
            "SELECT count(*) FROM results WHERE worker=? AND instance=?", (owner.worker, name)
        ).fetchone()
        over = held - most + most // 100 if held > most else 0
    if not over and expires > now_ms:
        return
    oldest = db.execute(
        "SELECT key, expires_ms FROM results WHERE worker=? AND instance=? ORDER BY sequence LIMIT ?",
        (owner.worker, name, _PRUNED_PER_COMMIT),
    ).fetchall()
    for number, (key, expires) in enumerate(oldest):
        if number >= over and expires > now_ms:
            break
        db.execute("DELETE FROM results WHERE worker=? AND instance=? AND key=?", (owner.worker, name, key))
