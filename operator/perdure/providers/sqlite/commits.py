"""What changes an instance: claims, commits, snapshots. Each function is one savepoint of the writer's transaction."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping

from perdure.durable.effects import decode_outcomes, encode_outcomes
from perdure.durable.records import Claim, Commit, CommitStatus, Committed, OwnerToken, SnapshotWrite
from perdure.errors import InternalError, LostWrites
from perdure.providers.sqlite import inbox, results
from perdure.providers.sqlite.buckets import apply_effects
from perdure.providers.sqlite.instances import read_data
from perdure.providers.sqlite.owner import Held, Owner, require_owner

_OF = "WHERE worker=? AND instance=?"


def claim(db: sqlite3.Connection, owner: Owner, instance: str, nonce: str, host: str) -> Claim:
    name = instance.encode()
    row = db.execute(
        "SELECT epoch, nonce, host, previous, sequence FROM instances WHERE worker=? AND name=?", (owner.worker, name)
    ).fetchone()
    epoch, former, holder, previous, sequence = row or (0, None, None, None, 0)
    if former != nonce:
        epoch, previous = epoch + 1, holder
        db.execute(
            "INSERT INTO instances (worker, name, epoch, nonce, host, previous, sequence, base, life) "
            "VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (worker, name) DO UPDATE SET epoch=excluded.epoch, "
            "nonce=excluded.nonce, host=excluded.host, previous=excluded.previous, base=excluded.base",
            (owner.worker, name, epoch, nonce, host, previous, sequence, sequence, nonce),
        )
    data = read_data(db, owner, instance)
    if data is None:
        raise InternalError(f"instance {instance!r} is not there after its claim")
    return Claim(OwnerToken(epoch, nonce), data, previous, _identity(db, owner))


def commit(db: sqlite3.Connection, owner: Owner, commit: Commit, now_ms: int) -> Committed:
    held = require_owner(db, owner, commit.instance, commit.token)
    duplicate = _follows(db, owner, held, commit)
    if duplicate is not None:
        return duplicate
    refused = _refused(db, owner, commit, now_ms)
    if refused is not None:
        return Committed(refused)
    name = commit.instance.encode()
    place = (owner.worker, name)
    unsettled = commit.open or held.open or commit.foreign
    if commit.fresh:
        for table in ("snapshots", "journal", "blobs"):
            db.execute(f"DELETE FROM {table} {_OF}", place)
        unsettled |= db.execute(f"DELETE FROM unapplied {_OF}", place).rowcount > 0
    outcomes = apply_effects(db, owner, commit.effects, now_ms, commit.instance)
    db.execute(
        "INSERT INTO journal VALUES (?,?,?,?,?)", (*place, commit.sequence, commit.entry, encode_outcomes(outcomes))
    )
    _name_blobs(db, place, commit.sequence, commit.blobs)
    db.execute(
        "UPDATE instances SET sequence=?, open=?, component=coalesce(nullif(?, ''), component) "
        "WHERE worker=? AND name=?",
        (commit.sequence, int(commit.open), commit.component, *place),
    )
    if commit.foreign:
        db.execute("INSERT INTO unapplied VALUES (?,?,?)", (*place, commit.sequence))
    if commit.open:
        for key in {commit.pending, commit.reserves} - {None}:
            inbox.begin(db, owner, name, key or "")
    if commit.result is not None:
        unsettled |= inbox.remove(db, owner, name, commit.result.key)
        results.keep(db, owner, commit, commit.result, now_ms)
    if unsettled:
        inbox.refresh_due(db, owner, name)
    return Committed(CommitStatus.APPLIED, outcomes)


def applied(db: sqlite3.Connection, owner: Owner, instance: str, token: OwnerToken, sequence: int) -> None:
    require_owner(db, owner, instance, token)
    name = instance.encode()
    db.execute(f"DELETE FROM unapplied {_OF} AND sequence=?", (owner.worker, name, sequence))
    inbox.refresh_due(db, owner, name)


def snapshot(db: sqlite3.Connection, owner: Owner, write: SnapshotWrite) -> bool:
    held = require_owner(db, owner, write.instance, write.token)
    name = write.instance.encode()
    place = (owner.worker, name)
    parts, present = db.execute(f"SELECT count(*), max(sequence) FROM snapshots {_OF}", place).fetchone()
    if present == write.sequence and (parts == 1) == (write.follows is None):
        (same,) = db.execute(
            f"SELECT data=? FROM snapshots {_OF} AND sequence=?", (write.data, *place, present)
        ).fetchone()
        if same:
            return True
    unconfirmed = db.execute(f"SELECT 1 FROM unapplied {_OF} AND sequence <= ? LIMIT 1", (*place, write.sequence))
    if write.sequence > held.sequence or unconfirmed.fetchone():
        return False
    if write.follows is None:
        if present is not None and write.sequence < present:
            return False
        db.execute(f"DELETE FROM snapshots {_OF}", place)
    elif present != write.follows or write.sequence <= write.follows:
        return False
    db.execute("INSERT INTO snapshots VALUES (?,?,?,?)", (*place, write.sequence, write.data))
    _trim(db, owner, name, write.sequence)
    return True


def halt(db: sqlite3.Connection, owner: Owner, instance: str, token: OwnerToken, reason: bytes | None) -> None:
    require_owner(db, owner, instance, token)
    name = instance.encode()
    db.execute("UPDATE instances SET halt=? WHERE worker=? AND name=?", (reason, owner.worker, name))
    inbox.refresh_due(db, owner, name)


def _follows(db: sqlite3.Connection, owner: Owner, held: Held, commit: Commit) -> Committed | None:
    """None: it is the next one. Otherwise what a resent one was answered, or an error."""
    if commit.sequence == held.sequence + 1:
        return None
    if commit.sequence > held.sequence:
        raise LostWrites(f"instance {commit.instance!r} has lost the commits after {held.sequence}")
    if commit.sequence <= held.base:
        raise InternalError(f"commit {commit.sequence} of {commit.instance!r} does not follow {held.sequence}")
    row = db.execute(
        f"SELECT outcomes FROM journal {_OF} AND sequence=?",
        (owner.worker, commit.instance.encode(), commit.sequence),
    ).fetchone()
    # Nobody who has kept a snapshot of it asks for the outcomes.
    return Committed(CommitStatus.DUPLICATE, decode_outcomes(row[0] if row else b""))


def _refused(db: sqlite3.Connection, owner: Owner, commit: Commit, now_ms: int) -> CommitStatus | None:
    result = commit.result
    for key in {commit.reserves, None if result is None else result.key} - {None}:
        if results.find(db, owner, commit.instance, key or "", now_ms) is not None:
            return CommitStatus.KEY_USED
    if result is not None and commit.pending is None:
        waiting = inbox.pending(db, owner, commit.instance, result.key)
        # Another call of this key must not be taken out of the inbox.
        if waiting is not None and waiting.fingerprint != result.fingerprint:
            return CommitStatus.KEY_USED
    if commit.pending is not None:
        waiting = inbox.pending(db, owner, commit.instance, commit.pending)
        # Under the same key there may be another call by now.
        if waiting is None or (result is not None and waiting.fingerprint != result.fingerprint):
            return CommitStatus.CANCELLED
    return None


def _trim(db: sqlite3.Connection, owner: Owner, name: bytes, sequence: int) -> None:
    """Drop the records up to `sequence` with the blobs that only they named."""
    db.execute(f"DELETE FROM journal {_OF} AND sequence <= ?", (owner.worker, name, sequence))
    db.execute(f"DELETE FROM blobs {_OF} AND last <= ?", (owner.worker, name, sequence))


def _name_blobs(
    db: sqlite3.Connection, place: tuple[bytes, bytes], sequence: int, blobs: Mapping[bytes, bytes]
) -> None:
    db.executemany(
        "INSERT INTO blobs VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET last=excluded.last",
        [(*place, digest, sequence, data) for digest, data in blobs.items()],
    )


def _identity(db: sqlite3.Connection, owner: Owner) -> str:
    """Of the Worker's contents, as long as they are: made by its first claim."""
    row = db.execute("SELECT identity FROM identities WHERE worker=?", (owner.worker,)).fetchone()
    if row is None:
        row = (secrets.token_hex(8),)
        db.execute("INSERT INTO identities VALUES (?,?)", (owner.worker, *row))
    return str(row[0])
