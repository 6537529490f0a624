"""What the writer does inside its transaction, one function an operation. Synchronous, pure SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from perdure.durable.effects import BucketAddress, Effect, Put, Scope
from perdure.durable.records import Claim, Commit, CommitOutcome, ForeignApply, HostRecord, OwnerToken, WorkerId
from perdure.errors import Fenced, InternalError

_PRUNED_PER_COMMIT = 100


@dataclass(frozen=True, slots=True)
class Owner:
    """The columns that say whose a row is."""

    worker: bytes
    namespace: bytes

    @classmethod
    def of(cls, worker: WorkerId) -> Owner:
        namespace = worker.namespace.encode()
        tag = b"%d:%s" % (len(namespace), namespace)
        return cls(b"w" + tag + b"/" + worker.name.encode(), b"n" + tag)

    def bucket(self, address: BucketAddress) -> tuple[bytes, bytes, bytes]:
        owner = self.namespace if address.scope is Scope.NAMESPACE else self.worker
        private = b"" if address.instance is None else b"i" + address.instance.encode()
        return owner, address.name.encode(), private


def claim(db: sqlite3.Connection, owner: Owner, instance: str, nonce: str, host: str) -> Claim:
    name = instance.encode()
    row = db.execute(
        "SELECT epoch, nonce, host, sequence, life FROM instances WHERE worker=? AND name=?", (owner.worker, name)
    ).fetchone()
    epoch, former, previous, sequence, life = row or (0, "", None, 0, nonce)
    if former != nonce:
        epoch += 1
        db.execute(
            "INSERT INTO instances VALUES (?,?,?,?,?,?,?) ON CONFLICT (worker, name) "
            "DO UPDATE SET epoch=excluded.epoch, nonce=excluded.nonce, host=excluded.host",
            (owner.worker, name, epoch, nonce, host, sequence, life),
        )
    rows = db.execute(
        "SELECT sequence, entry, unapplied FROM journal WHERE worker=? AND instance=? ORDER BY sequence",
        (owner.worker, name),
    ).fetchall()
    unapplied = [number for number, _, pending in rows if pending]
    return Claim(OwnerToken(epoch, nonce), life, sequence, [entry for _, entry, _ in rows], unapplied, previous)


def require_owner(db: sqlite3.Connection, owner: Owner, instance: str, token: OwnerToken) -> int:
    """The stored sequence. Raises `Fenced` unless the token is the present one, by equality."""
    row = db.execute(
        "SELECT epoch, nonce, sequence FROM instances WHERE worker=? AND name=?", (owner.worker, instance.encode())
    ).fetchone()
    if row is None or (row[0], row[1]) != (token.epoch, token.nonce):
        raise Fenced(f"instance {instance!r} is owned by another host now")
    return int(row[2])


def commit(db: sqlite3.Connection, owner: Owner, commit: Commit, now_ms: int) -> CommitOutcome:
    stored = require_owner(db, owner, commit.instance, commit.token)
    if commit.sequence == stored:
        return CommitOutcome.DUPLICATE
    if commit.sequence != stored + 1:
        raise InternalError(f"commit {commit.sequence} does not follow {stored}")
    name = commit.instance.encode()
    apply_effects(db, owner, commit.effects, now_ms)
    db.execute(
        "INSERT INTO journal VALUES (?,?,?,?,?)",
        (owner.worker, name, commit.sequence, commit.entry, int(commit.foreign)),
    )
    if commit.result is not None:
        db.execute(
            "INSERT OR REPLACE INTO results VALUES (?,?,?,?,?,?,?)",
            (
                owner.worker,
                name,
                commit.result.key.encode(),
                commit.result.fingerprint,
                commit.result.body,
                commit.sequence,
                now_ms + commit.result_retention_ms,
            ),
        )
        _prune_results(db, owner, name, commit, now_ms)
    db.execute("UPDATE instances SET sequence=? WHERE worker=? AND name=?", (commit.sequence, owner.worker, name))
    return CommitOutcome.APPLIED


def _prune_results(db: sqlite3.Connection, owner: Owner, name: bytes, commit: Commit, now_ms: int) -> None:
    """Drop results past their retention or over the bound, the oldest first, a bounded number a commit.

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


def apply_effects(db: sqlite3.Connection, owner: Owner, effects: Sequence[Effect], now_ms: int) -> None:
    """Apply in order, and clear away a bounded number of expired entries."""
    for effect in effects:
        _apply(db, owner, effect, now_ms)
    if effects:
        db.execute(
            "DELETE FROM entries WHERE (owner, bucket, instance, key) IN "
            "(SELECT owner, bucket, instance, key FROM entries WHERE expires_ms <= ? LIMIT 100)",
            (now_ms,),
        )


def _apply(db: sqlite3.Connection, owner: Owner, effect: Effect, now_ms: int) -> None:
    where = owner.bucket(effect.bucket)
    key = effect.key.encode()
    if isinstance(effect, Put):
        expires = None if effect.ttl_ms is None else now_ms + effect.ttl_ms
        db.execute("INSERT OR REPLACE INTO entries VALUES (?,?,?,?,?,?)", (*where, key, effect.value, expires))
    else:
        db.execute("DELETE FROM entries WHERE owner=? AND bucket=? AND instance=? AND key=?", (*where, key))


def applied(db: sqlite3.Connection, owner: Owner, instance: str, token: OwnerToken, sequence: int) -> None:
    require_owner(db, owner, instance, token)
    db.execute(
        "UPDATE journal SET unapplied=0 WHERE worker=? AND instance=? AND sequence=?",
        (owner.worker, instance.encode(), sequence),
    )


def apply_foreign(db: sqlite3.Connection, owner: Owner, apply: ForeignApply, now_ms: int) -> CommitOutcome:
    origin = apply.origin.encode()
    row = db.execute(
        "SELECT sequence FROM foreign_marks WHERE worker=? AND origin=?", (owner.worker, origin)
    ).fetchone()
    if row is not None and apply.sequence <= row[0]:
        return CommitOutcome.DUPLICATE
    apply_effects(db, owner, apply.effects, now_ms)
    db.execute("INSERT OR REPLACE INTO foreign_marks VALUES (?,?,?)", (owner.worker, origin, apply.sequence))
    return CommitOutcome.APPLIED


def delete_instance(db: sqlite3.Connection, owner: Owner, instance: str) -> bool:
    name = instance.encode()
    row = db.execute("SELECT sequence FROM instances WHERE worker=? AND name=?", (owner.worker, name)).fetchone()
    db.execute("DELETE FROM instances WHERE worker=? AND name=?", (owner.worker, name))
    db.execute("DELETE FROM journal WHERE worker=? AND instance=?", (owner.worker, name))
    db.execute("DELETE FROM results WHERE worker=? AND instance=?", (owner.worker, name))
    db.execute("DELETE FROM entries WHERE owner=? AND instance=?", (owner.worker, b"i" + name))
    return row is not None and row[0] > 0


def announce(db: sqlite3.Connection, owner: Owner, record: HostRecord, ttl_ms: int, now_ms: int) -> list[HostRecord]:
    db.execute("DELETE FROM hosts WHERE worker=? AND expires_ms <= ?", (owner.worker, now_ms))
    db.execute(
        "INSERT OR REPLACE INTO hosts VALUES (?,?,?,?)", (owner.worker, record.host, record.url, now_ms + ttl_ms)
    )
    rows = db.execute("SELECT host, url FROM hosts WHERE worker=?", (owner.worker,)).fetchall()
    return [HostRecord(host, url) for host, url in rows]


def leave(db: sqlite3.Connection, owner: Owner, host: str) -> None:
    db.execute("DELETE FROM hosts WHERE worker=? AND host=?", (owner.worker, host))


def purge_some(db: sqlite3.Connection, owner: Owner, limit: int) -> int:
    """Delete up to `limit` rows of each table; 0: nothing is left."""
    removed = 0
    for table, column, keys in (
        ("entries", "owner", "owner, bucket, instance, key"),
        ("journal", "worker", "worker, instance, sequence"),
        ("results", "worker", "worker, instance, key"),
        ("instances", "worker", "worker, name"),
        ("foreign_marks", "worker", "worker, origin"),
        ("hosts", "worker", "worker, host"),
    ):
        # Table and column names are the literals above.
        statement = f"DELETE FROM {table} WHERE ({keys}) IN (SELECT {keys} FROM {table} WHERE {column}=? LIMIT ?)"
        removed += db.execute(statement, (owner.worker, limit)).rowcount
    return removed
