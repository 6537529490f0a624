"""Feeds of watched buckets. Whose a bucket is, the columns `owner` and `bucket` say; private ones have no feeds."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perdure.durable.effects import BucketAddress, Effect, Scope
from perdure.durable.feeds import PAGE_BYTES, Change, Changed, FeedBounds, FeedPage, Watch, feed_full
from perdure.providers.sqlite.owner import Owner

_OF = "WHERE owner=? AND bucket=?"
_Place = tuple[bytes, bytes]


@dataclass(slots=True)
class Feed:
    """One that an operation appends to."""

    place: _Place
    last: int
    changes: list[tuple[int, bytes, bytes | None]]

    def append(self, key: str, changed: Changed) -> None:
        self.last += 1
        self.changes.append((self.last, key.encode(), changed.value))


def open_feeds(
    db: sqlite3.Connection, owner: Owner, effects: Iterable[Effect], writer: bytes
) -> Mapping[BucketAddress, Feed]:
    """Those that effects of `writer` belong into. Raises `FeedFull`."""
    found: dict[BucketAddress, Feed] = {}
    for bucket in {effect.bucket for effect in effects if effect.bucket.instance is None}:
        place = _place(owner, bucket)
        row = db.execute(
            f"SELECT last, held >= max_changes OR bytes >= max_bytes FROM feeds f {_OF} AND EXISTS "
            "(SELECT 1 FROM watches w WHERE w.owner=f.owner AND w.bucket=f.bucket AND w.writer != ?)",
            (*place, writer),
        ).fetchone()
        if row is not None:
            if row[1]:
                raise feed_full(bucket.name)
            found[bucket] = Feed(place, row[0], [])
    return found


def close_feeds(db: sqlite3.Connection, feeds: Iterable[Feed], writer: bytes) -> None:
    """Keep what was appended."""
    for feed in feeds:
        if feed.changes:
            db.executemany(
                "INSERT INTO changes VALUES (?,?,?,?,?,?)",
                [(*feed.place, number, writer, key, value) for number, key, value in feed.changes],
            )
            size = sum(len(key) + len(value or b"") for _, key, value in feed.changes)
            db.execute(
                f"UPDATE feeds SET last=?, held=held+?, bytes=bytes+? {_OF}",
                (feed.last, len(feed.changes), size, *feed.place),
            )


def watch(
    db: sqlite3.Connection, owner: Owner, bucket: BucketAddress, instance: str, bounds: FeedBounds, now_ms: int
) -> None:
    place = _place(owner, bucket)
    db.execute(
        "INSERT INTO feeds (owner, bucket, life, max_changes, max_bytes) VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET "
        "max_changes=excluded.max_changes, max_bytes=excluded.max_bytes",
        (*place, secrets.token_hex(8), bounds.changes, bounds.bytes),
    )
    (last,) = db.execute(f"SELECT last FROM feeds {_OF}", place).fetchone()
    db.execute(
        "INSERT INTO watches VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET instance=excluded.instance, "
        "writer=excluded.writer, renewed_ms=excluded.renewed_ms",
        (*place, owner.worker, bucket.scope.value, instance.encode(), owner.writer(instance), last, now_ms),
    )


def watches(db: sqlite3.Connection, owner: Owner, now_ms: int) -> list[Watch]:
    rows = db.execute("SELECT scope, bucket, instance, renewed_ms FROM watches WHERE worker=?", (owner.worker,))
    return [
        Watch(BucketAddress(Scope(scope), bucket.decode()), instance.decode(), now_ms - renewed_ms)
        for scope, bucket, instance, renewed_ms in rows
    ]


def unwatch(db: sqlite3.Connection, owner: Owner, bucket: BucketAddress, idle_ms: int, now_ms: int) -> None:
    place = _place(owner, bucket)
    ended = db.execute(
        f"DELETE FROM watches {_OF} AND worker=? AND renewed_ms <= ?", (*place, owner.worker, now_ms - idle_ms)
    ).rowcount
    if ended:
        _trim(db, place)


def changes(db: sqlite3.Connection, owner: Owner, bucket: BucketAddress, after: int, limit: int) -> FeedPage | None:
    place = _place(owner, bucket)
    row = db.execute(
        f"SELECT f.life, w.reached, w.writer FROM feeds f JOIN watches w USING (owner, bucket) {_OF} AND worker=?",
        (*place, owner.worker),
    ).fetchone()
    if row is None:
        return None
    life, reached, writer = row
    found: list[Change] = []
    size = 0
    for number, made_by, key, value in db.execute(
        f"SELECT number, writer, key, value FROM changes {_OF} AND number > ? ORDER BY number LIMIT ?",
        (*place, max(after, reached), limit),
    ):
        found.append(Change(number, key.decode(), value, made_by == writer))
        size += len(key) + len(value or b"")
        if size >= PAGE_BYTES:
            break
    return FeedPage(life, reached, found)


def told(db: sqlite3.Connection, owner: Owner, bucket: BucketAddress, life: str, number: int) -> None:
    place = _place(owner, bucket)
    moved = db.execute(
        "UPDATE watches AS w SET reached=min(?, f.last) FROM feeds f WHERE f.owner=w.owner AND f.bucket=w.bucket "
        "AND w.owner=? AND w.bucket=? AND w.worker=? AND f.life=? AND w.reached < ?",
        (number, *place, owner.worker, life, number),
    ).rowcount
    if moved:
        _trim(db, place)


def _trim(db: sqlite3.Connection, place: _Place) -> None:
    """Drop what all have been told, and the feed when nobody watches any more."""
    (reached,) = db.execute(f"SELECT min(reached) FROM watches {_OF}", place).fetchone()
    if reached is None:
        db.execute(f"DELETE FROM changes {_OF}", place)
        db.execute(f"DELETE FROM feeds {_OF}", place)
        return
    gone, size = db.execute(
        f"SELECT count(*), coalesce(sum(length(key) + coalesce(length(value), 0)), 0) FROM changes {_OF} "
        "AND number <= ?",
        (*place, reached),
    ).fetchone()
    db.execute(f"DELETE FROM changes {_OF} AND number <= ?", (*place, reached))
    db.execute(f"UPDATE feeds SET held=held-?, bytes=bytes-? {_OF}", (gone, size, *place))


def _place(owner: Owner, bucket: BucketAddress) -> _Place:
    whose, _, name = owner.bucket(bucket)
    return whose, name
