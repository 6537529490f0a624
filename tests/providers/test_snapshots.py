"""Snapshots, the records and blobs they stand for, and instances that begin anew."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from perdure.durable.records import JournalRecord, SnapshotChain
from perdure.durable.store import Store
from providers.owners import Owner, look, own, result


def _blob(text: str) -> tuple[bytes, bytes]:
    data = text.encode()
    return hashlib.sha256(data).digest(), data


ONE, TWO, THREE = _blob("one"), _blob("two"), _blob("three")


async def _owner(store: Store, commits: int = 5) -> Owner:
    owner = await own(store)
    await owner.commits(commits)
    return owner


def _records(*sequences: int) -> list[JournalRecord]:
    return [JournalRecord(b"e%d" % sequence) for sequence in sequences]


async def test_a_snapshot_stands_for_the_records_up_to_it(store: Store) -> None:
    owner = await _owner(store)
    assert await owner.snapshot(3, b"after 3") is True
    claim = await store.claim("alice", "next", "h2")
    assert claim.data.snapshot == SnapshotChain(3, [b"after 3"])
    assert (claim.data.sequence, claim.data.first, claim.data.journal) == (5, 4, _records(4, 5))


async def test_there_is_none_at_first(store: Store) -> None:
    await _owner(store)
    assert (await look(store)).snapshot is None


async def test_the_next_commit_follows_the_last_record(store: Store) -> None:
    owner = await _owner(store)
    await owner.snapshot(4)
    await owner.commit()
    data = await look(store)
    assert (data.sequence, data.first, data.journal) == (6, 5, _records(5, 6))


async def test_deltas_are_chained_oldest_first(store: Store) -> None:
    owner = await _owner(store)
    assert await owner.snapshot(1, b"full")
    assert await owner.snapshot(2, b"delta-1", follows=1)
    assert await owner.snapshot(4, b"delta-2", follows=2)
    data = await look(store)
    assert data.snapshot == SnapshotChain(4, [b"full", b"delta-1", b"delta-2"])
    assert data.journal == _records(5)


async def test_a_whole_one_replaces_the_chain(store: Store) -> None:
    owner = await _owner(store)
    await owner.snapshot(1, b"full")
    await owner.snapshot(2, b"delta", follows=1)
    assert await owner.snapshot(3, b"new full")
    assert (await look(store)).snapshot == SnapshotChain(3, [b"new full"])


async def test_a_whole_one_may_replace_the_chain_at_its_own_sequence(store: Store) -> None:
    owner = await _owner(store)
    await owner.snapshot(1, b"full")
    await owner.snapshot(3, b"delta", follows=1)
    assert await owner.snapshot(3, b"both in one")
    data = await look(store)
    assert (data.snapshot, data.journal) == (SnapshotChain(3, [b"both in one"]), _records(4, 5))


async def test_a_resent_one_changes_nothing(store: Store) -> None:
    owner = await _owner(store)
    for _ in range(2):
        assert await owner.snapshot(1, b"full") is True
    for _ in range(2):
        assert await owner.snapshot(2, b"delta", follows=1) is True
    await owner.commit()
    assert await owner.snapshot(2, b"delta", follows=1) is True
    data = await look(store)
    assert (data.snapshot, data.journal) == (SnapshotChain(2, [b"full", b"delta"]), _records(3, 4, 5, 6))


@pytest.mark.parametrize(
    ("sequence", "follows"),
    [
        pytest.param(4, 1, id="follows-an-older-one"),
        pytest.param(4, 3, id="follows-one-that-never-was"),
        pytest.param(4, 0, id="follows-nothing"),
        pytest.param(4, 4, id="follows-itself"),
        pytest.param(2, 2, id="ends-where-it-begins"),
        pytest.param(1, 2, id="ends-before-it-begins"),
        pytest.param(1, None, id="whole-but-older"),
        pytest.param(5, 2, id="at-the-last-commit"),
        pytest.param(5, None, id="whole-and-at-the-last-commit"),
        pytest.param(6, 2, id="ahead"),
        pytest.param(9, None, id="whole-and-ahead"),
    ],
)
async def test_one_that_does_not_fit_changes_nothing(store: Store, sequence: int, follows: int | None) -> None:
    owner = await _owner(store)
    await owner.snapshot(1, b"full")
    await owner.snapshot(2, b"delta", follows=1)
    before = await look(store)
    assert await owner.snapshot(sequence, b"wrong", follows) is False
    assert await look(store) == before


@pytest.mark.parametrize("follows", [0, 1, 2])
async def test_a_delta_needs_a_snapshot(store: Store, follows: int) -> None:
    owner = await _owner(store)
    assert await owner.snapshot(3, b"delta", follows) is False
    data = await look(store)
    assert (data.snapshot, data.journal) == (None, _records(1, 2, 3, 4, 5))


async def test_no_snapshot_before_the_second_commit(store: Store) -> None:
    owner = await own(store)
    assert await owner.snapshot(1) is False
    await owner.commit()
    assert await owner.snapshot(1) is False
    await owner.commit()
    assert await owner.snapshot(1) is True


async def test_records_with_unconfirmed_effects_are_not_trimmed(store: Store) -> None:
    owner = await own(store)
    await owner.commit()
    await owner.commit(foreign=True)
    await owner.commits(2)
    assert await owner.snapshot(1, b"before it")
    before = await look(store)
    assert await owner.snapshot(2) is False
    assert await owner.snapshot(3) is False
    assert await owner.snapshot(3, b"delta", follows=1) is False
    assert await look(store) == before
    await store.applied("alice", owner.token, 2)
    assert await owner.snapshot(3, b"delta", follows=1) is True


async def test_results_outlive_the_records(store: Store) -> None:
    owner = await own(store)
    await owner.commit(result=result("k"))
    await owner.commit()
    await owner.snapshot(1)
    assert await store.result("alice", "k") == result("k")


async def test_a_large_snapshot(store: Store) -> None:
    owner = await _owner(store)
    parts = [bytes(range(256)) * 4096, b"", b"\0" * 100_000]
    assert await owner.snapshot(1, parts[0])
    assert await owner.snapshot(2, parts[1], follows=1)
    assert await owner.snapshot(3, parts[2], follows=2)
    assert (await look(store)).snapshot == SnapshotChain(3, parts)


async def test_many_records_are_trimmed_at_once(store: Store) -> None:
    owner = await own(store)
    async with asyncio.timeout(60):
        await owner.commits(1200)
    assert await owner.snapshot(1199)
    assert (await look(store)).journal == _records(1200)


async def test_blobs_are_kept_with_the_commit(store: Store) -> None:
    owner = await own(store)
    await owner.commit(blobs=dict([ONE, TWO]))
    claim = await store.claim("alice", "next", "h2")
    assert claim.data.blobs == dict([ONE, TWO])
    assert await store.blobs("alice", [TWO[0], THREE[0], ONE[0], TWO[0]]) == [TWO[1], None, ONE[1], TWO[1]]
    assert await store.blobs("alice", []) == []
    assert await store.blobs("nobody", [ONE[0]]) == [None]


async def test_a_blob_that_is_stored_is_not_stored_again(store: Store) -> None:
    owner = await own(store)
    await owner.commit(blobs={ONE[0]: b"first"})
    await owner.commit(blobs={ONE[0]: b"second"})
    assert (await look(store)).blobs == {ONE[0]: b"first"}


async def test_a_blob_is_kept_until_every_record_that_named_it_is_trimmed(store: Store) -> None:
    owner = await own(store)
    await owner.commit(blobs=dict([ONE, TWO]))
    await owner.commit(blobs=dict([THREE]))
    await owner.commit(blobs=dict([ONE]))
    await owner.commits(2)
    await owner.snapshot(1)
    assert (await look(store)).blobs == dict([ONE, THREE])
    await owner.snapshot(2)
    assert (await look(store)).blobs == dict([ONE])
    await owner.snapshot(3)
    assert (await look(store)).blobs == {}
    assert await store.blobs("alice", [ONE[0]]) == [None]


async def test_a_blob_that_was_dropped_can_come_back(store: Store) -> None:
    owner = await own(store)
    await owner.commit(blobs=dict([ONE]))
    await owner.commit()
    await owner.snapshot(1)
    await owner.commit(blobs=dict([ONE]))
    assert (await look(store)).blobs == dict([ONE])


async def test_a_refused_snapshot_drops_no_blob(store: Store) -> None:
    owner = await own(store)
    await owner.commit(blobs=dict([ONE]))
    await owner.commit()
    assert await owner.snapshot(1, b"delta", follows=0) is False
    assert (await look(store)).blobs == dict([ONE])


async def test_blobs_belong_to_one_instance(store: Store) -> None:
    await (await own(store, "alice")).commit(blobs=dict([ONE]))
    await (await own(store, "bob")).commit()
    assert await store.blobs("bob", [ONE[0]]) == [None]


async def test_a_fresh_commit_drops_the_snapshot_and_all_earlier_records(store: Store) -> None:
    owner = await own(store)
    await owner.commit(blobs=dict([ONE, TWO]), result=result("k"))
    await owner.commits(3)
    await owner.snapshot(1, b"full")
    await owner.snapshot(2, b"delta", follows=1)
    await owner.commit(blobs=dict([TWO]), fresh=True)
    data = await look(store)
    assert (data.snapshot, data.sequence, data.journal, data.blobs) == (None, 5, _records(5), dict([TWO]))
    assert await store.result("alice", "k") == result("k")
    await owner.commit()
    assert await owner.snapshot(5, b"delta", follows=2) is False
    assert await owner.snapshot(5, b"new life") is True
    assert (await look(store)).snapshot == SnapshotChain(5, [b"new life"])


async def test_a_refused_fresh_commit_drops_nothing(store: Store) -> None:
    owner = await own(store)
    await owner.commit(result=result("k"), blobs=dict([ONE]))
    await owner.commit()
    await owner.snapshot(1)
    before = await look(store)
    await owner.commit(fresh=True, reserves="k")
    assert await look(store) == before


async def test_the_first_commit_may_be_fresh(store: Store) -> None:
    owner = await own(store)
    await owner.commit(fresh=True)
    assert (await look(store)).journal == _records(1)
