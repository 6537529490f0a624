"""What is SQLite's own: the group commit, several processes on one file, and files of former versions."""

from __future__ import annotations

import asyncio
import sqlite3
import struct
import sys
from pathlib import Path

import pytest

from perdure.durable.effects import BucketAddress, Counted, Increment, Put, Scope
from perdure.durable.records import Commit, CommitStatus, Committed, ForeignApply, OwnerToken, StoredResult, WorkerId
from perdure.errors import InternalError, ProviderUnavailable
from perdure.providers.sqlite import SqliteStore

SHOP = BucketAddress(Scope.WORKER, "shop")
PRIVATE = BucketAddress(Scope.INSTANCE, "mine", "alice")
WORKER = WorkerId("ns", "carts")

VERSION_2 = """
CREATE TABLE instances (
    worker BLOB NOT NULL, name BLOB NOT NULL,
    epoch INTEGER NOT NULL, nonce TEXT NOT NULL, host TEXT NOT NULL, sequence INTEGER NOT NULL,
    life TEXT NOT NULL,
    PRIMARY KEY (worker, name)) WITHOUT ROWID;
CREATE TABLE journal (
    worker BLOB NOT NULL, instance BLOB NOT NULL, sequence INTEGER NOT NULL,
    entry BLOB NOT NULL, unapplied INTEGER NOT NULL,
    PRIMARY KEY (worker, instance, sequence)) WITHOUT ROWID;
CREATE TABLE results (
    worker BLOB NOT NULL, instance BLOB NOT NULL, key BLOB NOT NULL,
    fingerprint BLOB NOT NULL, body BLOB NOT NULL, sequence INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    PRIMARY KEY (worker, instance, key)) WITHOUT ROWID;
CREATE INDEX results_by_age ON results (worker, instance, sequence);
CREATE TABLE entries (
    owner BLOB NOT NULL, bucket BLOB NOT NULL, instance BLOB NOT NULL, key BLOB NOT NULL,
    value BLOB NOT NULL, expires_ms INTEGER,
    PRIMARY KEY (owner, bucket, instance, key)) WITHOUT ROWID;
CREATE INDEX entries_by_expiry ON entries (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE TABLE foreign_marks (
    worker BLOB NOT NULL, origin BLOB NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (worker, origin)) WITHOUT ROWID;
CREATE TABLE hosts (
    worker BLOB NOT NULL, host TEXT NOT NULL, url TEXT NOT NULL, expires_ms INTEGER NOT NULL,
    PRIMARY KEY (worker, host)) WITHOUT ROWID;
"""


def file_of_version_2(path: Path) -> None:
    """Two commits of `alice`, the second one's foreign effects unconfirmed, as version 2 wrote them."""
    db = sqlite3.connect(path)
    db.executescript(VERSION_2)
    worker, shared = b"w2:ns/carts", b""
    db.execute("INSERT INTO instances VALUES (?,?,?,?,?,?,?)", (worker, b"alice", 3, "n", "h1", 2, "life"))
    for sequence, unapplied in ((1, 0), (2, 1)):
        db.execute("INSERT INTO journal VALUES (?,?,?,?,?)", (worker, b"alice", sequence, b"e%d" % sequence, unapplied))
    db.execute("INSERT INTO results VALUES (?,?,?,?,?,?,?)", (worker, b"alice", b"k", b"f" * 32, b"1", 1, 1 << 60))
    db.execute("INSERT INTO entries VALUES (?,?,?,?,?,?)", (worker, b"shop", shared, b"a", b"old", None))
    db.execute("INSERT INTO entries VALUES (?,?,?,?,?,?)", (worker, b"mine", b"ialice", b"a", b"own", 1 << 60))
    db.execute("INSERT INTO foreign_marks VALUES (?,?,?)", (worker, b"origin", 7))
    db.execute("PRAGMA user_version=2")
    db.commit()
    db.close()


async def test_a_file_of_version_2_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "data.sqlite"
    file_of_version_2(path)
    store = await SqliteStore.open(path, WORKER)
    try:
        assert (await store.due(10)).instances == ["alice"]
        await store.verify("alice", OwnerToken(3, "n"))
        claim = await store.claim("alice", "m", "h2")
        assert (claim.token, claim.previous_host, claim.data.life) == (OwnerToken(4, "m"), "h1", "life")
        assert ([record.entry for record in claim.data.journal], claim.data.unapplied) == ([b"e1", b"e2"], [2])
        assert await store.result("alice", "k") == StoredResult("k", b"f" * 32, b"1")
        assert await store.get_many(SHOP, ["a"]) == [b"old"]
        assert await store.get_many(PRIVATE, ["a"]) == [b"own"]
        stale = ForeignApply("origin", 7, [Put(SHOP, "a", b"twice")])
        assert await store.apply_foreign(stale) == Committed(CommitStatus.DUPLICATE)
        assert (await store.commit(Commit("alice", claim.token, 3, b"e3"))).status is CommitStatus.APPLIED
    finally:
        await store.close()
    again = await SqliteStore.open(path, WORKER)
    assert (await again.claim("alice", "x", "h")).data.sequence == 3
    await again.close()


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(ProviderUnavailable, match="newer Perdure"):
        await SqliteStore.open(path, WORKER)


def transactions(path: Path) -> int:
    """Committed ones in the write-ahead log: frames that carry the file's size (SQLite's file format, section 4)."""
    log = Path(f"{path}-wal").read_bytes()
    page: int = struct.unpack_from(">I", log, 8)[0]
    salt = log[16:24]
    frames = [log[at : at + 24] for at in range(32, len(log), 24 + page)]
    return sum(1 for frame in frames if frame[4:8] != b"\0\0\0\0" and frame[8:16] == salt)


async def test_commits_that_wait_together_share_a_transaction(tmp_path: Path) -> None:
    path = tmp_path / "data.sqlite"
    store = await SqliteStore.open(path, WORKER)
    names = [f"i{number}" for number in range(40)]
    tokens = [(await store.claim(name, "n", "h")).token for name in names]
    before = transactions(path)
    for name, token in zip(names, tokens, strict=True):
        await store.commit(Commit(name, token, 1, b"x"))
    alone = transactions(path) - before
    await asyncio.gather(
        *(store.commit(Commit(name, token, 2, b"x")) for name, token in zip(names, tokens, strict=True))
    )
    together = transactions(path) - before - alone
    await store.close()
    assert alone == len(names), "the control: one after the other, each has a transaction of its own"
    assert together <= 3


async def test_a_refused_operation_takes_nothing_of_the_others_with_it(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "data.sqlite", WORKER)
    token = (await store.claim("alice", "n", "h")).token
    outcomes = await asyncio.gather(
        store.commit(Commit("alice", token, 5, b"gap", effects=[Put(SHOP, "gap", b"1")])),
        store.commit(Commit("alice", token, 1, b"odd", effects=[Put(SHOP, "half", b"1"), Put(SHOP, "\ud800", b"1")])),
        store.commit(Commit("alice", token, 1, b"good", effects=[Put(SHOP, "good", b"1")])),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], InternalError)
    assert outcomes[2] == Committed(CommitStatus.APPLIED)
    assert await store.get_many(SHOP, ["gap", "half", "good"]) == [None, None, b"1"]
    await store.close()


ADDS = """
import asyncio, sys
from pathlib import Path
from perdure.durable.effects import BucketAddress, Increment, Scope
from perdure.durable.records import Commit, WorkerId
from perdure.providers.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]), WorkerId("ns", "carts"))
    token = (await store.claim(sys.argv[2], "n", "h")).token
    for sequence in range(1, 101):
        await store.commit(Commit(sys.argv[2], token, sequence, b"x",
                                  effects=[Increment(BucketAddress(Scope.WORKER, "shop"), "n", 1)]))
    await store.close()

asyncio.run(main())
"""


async def test_two_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "data.sqlite"
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", ADDS, str(path), name) for name in ("one", "two")
    ]
    assert [await process.wait() for process in processes] == [0, 0]
    store = await SqliteStore.open(path, WORKER)
    token = (await store.claim("three", "n", "h")).token
    done = await store.commit(Commit("three", token, 1, b"x", effects=[Increment(SHOP, "n", 1)]))
    assert done.outcomes == [Counted(201)]
    await store.close()


async def test_a_new_file_that_others_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that start at once on a new file: each may meet another one that reads it, not yet in WAL mode."""
    path = tmp_path / "data.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM sqlite_master").fetchall()
    monkeypatch.setattr("perdure.providers.sqlite.schema._BUSY_MS", 50)
    with pytest.raises(ProviderUnavailable, match="locked"):
        await SqliteStore.open(path, WORKER)
    monkeypatch.undo()
    opening = asyncio.create_task(SqliteStore.open(path, WORKER))
    await asyncio.sleep(0.1)
    assert not opening.done()
    other.close()
    store = await opening
    assert (await store.ping()).durability == "D2"
    await store.close()
