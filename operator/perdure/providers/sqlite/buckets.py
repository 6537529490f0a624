"""Buckets: what effects do to their entries, and reads. `now_ms`: by the clock of the machine, which has the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from perdure.durable.effects import (
    Bounded,
    BucketAddress,
    Conflict,
    Counted,
    Effect,
    Fill,
    Increment,
    Outcome,
    Put,
    Refused,
    Remove,
    Swap,
    Swapped,
    counted,
    decode_outcomes,
    encode_outcomes,
    keys_of,
)
from perdure.durable.feeds import changes_of
from perdure.durable.records import CommitStatus, Committed, ForeignApply, KeyPage
from perdure.providers.sqlite.feeds import Feed, close_feeds, open_feeds
from perdure.providers.sqlite.owner import Owner

_KEYS_A_QUERY = 500
_CLEARED_PER_COMMIT = 100
_END_OF_TIME = 1 << 62
_WHERE = "owner=? AND instance=? AND bucket=?"
_Place = tuple[bytes, bytes, bytes, bytes]


def apply_effects(
    db: sqlite3.Connection, owner: Owner, effects: Sequence[Effect], now_ms: int, instance: str | None
) -> list[Outcome]:
    """Apply in order, and clear away a bounded number of expired entries. The outcomes of the atomic ones. `instance`:
    whose effects they are. Raises `FeedFull`."""
    writer = owner.writer(instance)
    watched = open_feeds(db, owner, effects, writer)
    if watched:
        outcomes = [_told(db, owner, effect, now_ms, watched.get(effect.bucket)) for effect in effects]
        close_feeds(db, watched.values(), writer)
    else:
        outcomes = [_apply(db, owner, effect, now_ms) for effect in effects]
    if outcomes:
        db.execute(
            "DELETE FROM entries WHERE (owner, instance, bucket, key) IN "
            "(SELECT owner, instance, bucket, key FROM entries WHERE expires_ms <= ? LIMIT ?)",
            (now_ms, _CLEARED_PER_COMMIT),
        )
    return [outcome for outcome in outcomes if outcome is not None]


def apply_foreign(db: sqlite3.Connection, owner: Owner, apply: ForeignApply, now_ms: int) -> Committed:
    if apply.sequence == 0:
        return Committed(CommitStatus.APPLIED, apply_effects(db, owner, apply.effects, now_ms, apply.instance))
    origin = apply.origin.encode()
    row = db.execute(
        "SELECT sequence, outcomes FROM foreign_marks WHERE worker=? AND origin=?", (owner.worker, origin)
    ).fetchone()
    if row is not None and apply.sequence <= row[0]:
        return Committed(CommitStatus.DUPLICATE, decode_outcomes(row[1]) if apply.sequence == row[0] else [])
    outcomes = apply_effects(db, owner, apply.effects, now_ms, apply.instance)
    db.execute(
        "INSERT OR REPLACE INTO foreign_marks VALUES (?,?,?,?)",
        (owner.worker, origin, apply.sequence, encode_outcomes(outcomes)),
    )
    return Committed(CommitStatus.APPLIED, outcomes)


def get_many(
    db: sqlite3.Connection, owner: Owner, bucket: BucketAddress, keys: Sequence[str], now_ms: int
) -> list[bytes | None]:
    wanted = [key.encode() for key in keys]
    found: dict[bytes, bytes] = {}
    for start in range(0, len(wanted), _KEYS_A_QUERY):
        some = wanted[start : start + _KEYS_A_QUERY]
        statement = (
            f"SELECT key, value FROM entries WHERE {_WHERE} AND (expires_ms IS NULL OR expires_ms > ?) "
            f"AND key IN ({','.join('?' * len(some))})"
        )
        found.update(db.execute(statement, (*owner.bucket(bucket), now_ms, *some)).fetchall())
    return [found.get(key) for key in wanted]


def list_keys(
    db: sqlite3.Connection, owner: Owner, bucket: BucketAddress, cursor: str | None, limit: int, now_ms: int
) -> KeyPage:
    after = b"" if cursor is None else cursor.encode()
    comparison = ">=" if cursor is None else ">"
    rows = db.execute(
        f"SELECT key FROM entries WHERE {_WHERE} AND key {comparison} ? "
        "AND (expires_ms IS NULL OR expires_ms > ?) ORDER BY key LIMIT ?",
        (*owner.bucket(bucket), after, now_ms, limit + 1),
    ).fetchall()
    names = [bytes(row[0]).decode() for row in rows]
    return KeyPage(names[:limit], names[limit - 1] if len(names) > limit else None)


def count(db: sqlite3.Connection, owner: Owner, bucket: BucketAddress, now_ms: int, most: int = _END_OF_TIME) -> int:
    """Of live keys, and not further than `most`."""
    (held,) = db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM entries WHERE {_WHERE} "
        "AND (expires_ms IS NULL OR expires_ms > ?) LIMIT ?)",
        (*owner.bucket(bucket), now_ms, most),
    ).fetchone()
    return int(held)


def _told(db: sqlite3.Connection, owner: Owner, effect: Effect, now_ms: int, feed: Feed | None) -> Outcome | None:
    """As `_apply`, and what was changed is appended to the feed."""
    was_there = False
    if feed is not None and isinstance(effect, Remove):
        was_there = _live(db, (*owner.bucket(effect.bucket), effect.key.encode()), now_ms) is not None
    outcome = _apply(db, owner, effect, now_ms)
    if feed is not None:
        for key, changed in changes_of(effect, outcome, was_there=was_there):
            feed.append(key, changed)
    return outcome


def _apply(db: sqlite3.Connection, owner: Owner, effect: Effect, now_ms: int) -> Outcome | None:
    if isinstance(effect, Fill):
        if _full(db, owner, effect, now_ms):
            return Refused("full")
        bucket, expires_ms = owner.bucket(effect.bucket), _expires(now_ms, effect.ttl_ms)
        for key, value in effect.items:
            _put(db, (*bucket, key.encode()), value, expires_ms)
        return Swapped()
    place: _Place = (*owner.bucket(effect.bucket), effect.key.encode())
    match effect:
        case Put(value=value, ttl_ms=ttl_ms):
            _put(db, place, value, _expires(now_ms, ttl_ms))
            return None
        case Remove():
            db.execute(f"DELETE FROM entries WHERE {_WHERE} AND key=?", place)
            return None
        case Increment(delta=delta, ttl_ms=ttl_ms):
            held = _live(db, place, now_ms)
            outcome = counted(held[0] if held else None, delta)
            if held is None and _full(db, owner, effect, now_ms):
                return Refused("full")
            if isinstance(outcome, Counted):
                _put(db, place, b"%d" % outcome.value, held[1] if held else _expires(now_ms, ttl_ms))
            return outcome
        case Swap(expected=expected, value=value, ttl_ms=ttl_ms):
            held = _live(db, place, now_ms)
            current = held[0] if held else None
            if current != expected:
                return Conflict(current)
            if held is None and _full(db, owner, effect, now_ms):
                return Refused("full")
            _put(db, place, value, _expires(now_ms, ttl_ms))
            return Swapped()


def _full(db: sqlite3.Connection, owner: Owner, effect: Bounded, now_ms: int) -> bool:
    """Whether its keys that are missing are more than the bucket has room for."""
    if effect.max_keys is None:
        return False
    bucket = owner.bucket(effect.bucket)
    new = sum(_live(db, (*bucket, key.encode()), now_ms) is None for key in keys_of(effect))
    return new > 0 and count(db, owner, effect.bucket, now_ms, effect.max_keys) + new > effect.max_keys


def _put(db: sqlite3.Connection, place: _Place, value: bytes, expires_ms: int | None) -> None:
    db.execute("INSERT OR REPLACE INTO entries VALUES (?,?,?,?,?,?)", (*place, value, expires_ms))


def _live(db: sqlite3.Connection, place: _Place, now_ms: int) -> tuple[bytes, int | None] | None:
    """(value, expiry), or None where there is none or it has expired."""
    row: tuple[bytes, int | None] | None = db.execute(
        f"SELECT value, expires_ms FROM entries WHERE {_WHERE} AND key=? AND (expires_ms IS NULL OR expires_ms > ?)",
        (*place, now_ms),
    ).fetchone()
    return row


def _expires(now_ms: int, ttl_ms: int | None) -> int | None:
    return None if ttl_ms is None else min(now_ms + ttl_ms, _END_OF_TIME)
