"""Inboxes, and the table `due` that says who has something to do."""

from __future__ import annotations

import sqlite3
from typing import Any

from perdure.durable.inbox import Accepted, Cancelled, Due, NewCall, PendingCall, Taken
from perdure.durable.records import OwnerToken
from perdure.providers.sqlite import results
from perdure.providers.sqlite.owner import Owner, require_owner

_CALL = "key, fingerprint, payload, due_ms, attempts, begun, failure"
_ORDER = "ORDER BY due_ms, number"


def enqueue(
    db: sqlite3.Connection, owner: Owner, instance: str, call: NewCall, max_pending: int, now_ms: int
) -> Accepted:
    finished = results.find(db, owner, instance, call.key, now_ms)
    if finished is not None:
        return Accepted.FINISHED if finished.fingerprint == call.fingerprint else Accepted.CONFLICT
    waiting = pending(db, owner, instance, call.key)
    if waiting is not None:
        return Accepted.PENDING if waiting.fingerprint == call.fingerprint else Accepted.CONFLICT
    name = instance.encode()
    (held,) = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM inbox WHERE worker=? AND instance=? LIMIT ?)",
        (owner.worker, name, max_pending),
    ).fetchone()
    if held >= max_pending:
        return Accepted.FULL
    due_ms = now_ms if call.due_ms is None else call.due_ms
    db.execute(
        "INSERT INTO inbox (worker, instance, key, fingerprint, payload, due_ms) VALUES (?,?,?,?,?,?)",
        (owner.worker, name, call.key.encode(), call.fingerprint, call.payload, due_ms),
    )
    refresh_due(db, owner, name)
    return Accepted.ACCEPTED


def cancel(db: sqlite3.Connection, owner: Owner, instance: str, key: str, now_ms: int) -> Cancelled:
    if results.find(db, owner, instance, key, now_ms) is not None:
        return Cancelled.FINISHED
    waiting = pending(db, owner, instance, key)
    if waiting is None:
        return Cancelled.UNKNOWN
    if waiting.begun:
        return Cancelled.BEGUN
    remove(db, owner, instance.encode(), key)
    refresh_due(db, owner, instance.encode())
    return Cancelled.CANCELLED


def take(db: sqlite3.Connection, owner: Owner, instance: str, token: OwnerToken, now_ms: int) -> Taken:
    require_owner(db, owner, instance, token)
    row = db.execute(
        f"SELECT {_CALL}, number FROM inbox WHERE worker=? AND instance=? {_ORDER} LIMIT 1",
        (owner.worker, instance.encode()),
    ).fetchone()
    if row is None:
        return Taken(None, None)
    call = _call(row)
    if call.due_ms > now_ms:
        return Taken(None, call.due_ms)
    (attempts,) = db.execute(
        "UPDATE inbox SET attempts=attempts+1 WHERE number=? RETURNING attempts", (row[7],)
    ).fetchone()
    return Taken(_call((*row[:4], attempts, *row[5:])), None)


def postpone(
    db: sqlite3.Connection, owner: Owner, instance: str, token: OwnerToken, key: str, due_ms: int, failure: bytes
) -> None:
    require_owner(db, owner, instance, token)
    name = instance.encode()
    db.execute(
        "UPDATE inbox SET due_ms=?, failure=? WHERE worker=? AND instance=? AND key=?",
        (due_ms, failure, owner.worker, name, key.encode()),
    )
    refresh_due(db, owner, name)


def begin(db: sqlite3.Connection, owner: Owner, name: bytes, key: str) -> None:
    db.execute("UPDATE inbox SET begun=1 WHERE worker=? AND instance=? AND key=?", (owner.worker, name, key.encode()))


def remove(db: sqlite3.Connection, owner: Owner, name: bytes, key: str) -> bool:
    """Whether there was one."""
    found = db.execute(
        "DELETE FROM inbox WHERE worker=? AND instance=? AND key=?", (owner.worker, name, key.encode())
    ).rowcount
    return found > 0


def pending(db: sqlite3.Connection, owner: Owner, instance: str, key: str) -> PendingCall | None:
    row = db.execute(
        f"SELECT {_CALL} FROM inbox WHERE worker=? AND instance=? AND key=?",
        (owner.worker, instance.encode(), key.encode()),
    ).fetchone()
    return _call(row) if row else None


def first_calls(db: sqlite3.Connection, owner: Owner, instance: str, limit: int) -> list[PendingCall]:
    rows = db.execute(
        f"SELECT {_CALL} FROM inbox WHERE worker=? AND instance=? {_ORDER} LIMIT ?",
        (owner.worker, instance.encode(), limit),
    )
    return [_call(row) for row in rows]


def due(db: sqlite3.Connection, owner: Owner, limit: int, now_ms: int) -> Due:
    rows = db.execute(
        "SELECT instance, due_ms FROM due WHERE worker=? ORDER BY due_ms, instance LIMIT ?",
        (owner.worker, max(limit, 1)),
    ).fetchall()
    found = [bytes(name).decode() for name, due_ms in rows if due_ms <= now_ms]
    return Due(found[:limit], None if found or not rows else rows[0][1], now_ms)


def refresh_due(db: sqlite3.Connection, owner: Owner, name: bytes) -> None:
    """To be called after whatever may have changed when the instance has something to do."""
    place = (owner.worker, name)
    row = db.execute("SELECT halt IS NOT NULL, open FROM instances WHERE worker=? AND name=?", place).fetchone()
    halted, unfinished = row or (0, 0)
    if halted:
        due_ms = None
    elif unfinished or db.execute("SELECT 1 FROM unapplied WHERE worker=? AND instance=? LIMIT 1", place).fetchone():
        due_ms = 0
    else:
        (due_ms,) = db.execute("SELECT min(due_ms) FROM inbox WHERE worker=? AND instance=?", place).fetchone()
    if due_ms is None:
        db.execute("DELETE FROM due WHERE worker=? AND instance=?", place)
    else:
        db.execute("INSERT OR REPLACE INTO due VALUES (?,?,?)", (*place, due_ms))


def _call(row: tuple[Any, ...]) -> PendingCall:
    key, fingerprint, payload, due_ms, attempts, begun, failure = row[:7]
    return PendingCall(bytes(key).decode(), fingerprint, payload, due_ms, attempts, bool(begun), failure)
