"""What may be asked about an instance without being its owner, and what is left when it is deleted."""

from __future__ import annotations

import pytest

from perdure.durable.effects import BucketAddress, Increment, Put, Scope
from perdure.durable.records import InstanceInfo, JournalRecord, OwnerToken, Parting, WorkerId
from perdure.durable.store import Store
from perdure.errors import Fenced
from providers.owners import ODD, SHOP, call, look, own, result
from providers.worlds import World


async def test_peek_gives_what_a_claim_would(store: Store) -> None:
    owner = await own(store)
    await owner.commit(Increment(SHOP, "n", 1), blobs={b"d" * 32: b"blob"})
    await owner.commit()
    await owner.snapshot(1, b"full")
    await owner.commit(foreign=True, open=True, blobs={b"e" * 32: b"other"})
    await store.halt("alice", owner.token, b"why")
    peeked = await store.peek("alice")
    await store.verify("alice", owner.token)
    assert peeked == (await store.claim("alice", "next", "h")).data
    assert peeked is not None and (peeked.sequence, peeked.unapplied, peeked.open) == (3, [3], True)


async def test_nothing_is_known_of_an_instance_that_has_committed_nothing(store: Store) -> None:
    await own(store)
    for name in ("alice", "nobody"):
        assert await store.peek(name) is None
        assert await store.instance(name) is None
        assert await store.journal(name, 0, 10) is None
        assert await store.result(name, "k") is None
        assert await store.delete_instance(name) is False
    assert (await store.instances(None, 10)).names == []


async def test_a_claim_names_the_previous_host(store: Store) -> None:
    hosts = [(await store.claim("alice", f"n{number}", f"h{number}")).previous_host for number in range(3)]
    assert hosts == [None, "h0", "h1"]


async def test_all_claims_name_the_same_store(store: Store, other: Store) -> None:
    names = {(await store.claim("alice", "a", "h")).store, (await other.claim("bob", "b", "h")).store}
    await store.delete_instance("alice")
    names.add((await store.claim("alice", "c", "h")).store)
    assert len(names) == 1 and names != {""}


async def test_two_lives_differ_and_begin_at_nothing(store: Store) -> None:
    first = await own(store, nonce="a")
    await first.commit(foreign=True, open=True, component="sha256:1", blobs={b"d" * 32: b"blob"})
    await first.commit()
    await store.halt("alice", first.token, b"why")
    life = (await look(store)).life
    assert (await store.claim("alice", "b", "h")).data.life == life
    await store.delete_instance("alice")
    data = (await store.claim("alice", "c", "h")).data
    assert data.life not in ("", life)
    assert (data.sequence, data.snapshot, data.journal, data.blobs) == (0, None, [], {})
    assert (data.unapplied, data.open, data.halt) == ([], False, None)


async def test_what_is_told_of_an_instance(store: Store) -> None:
    owner = await own(store, host="host-1")
    for _ in range(4):
        await owner.commit(entry=b"12345", component="sha256:1")
    await owner.snapshot(1, b"full")
    await owner.snapshot(2, b"+", follows=1)
    await store.enqueue("alice", call("a"), 10)
    await store.enqueue("alice", call("b"), 10)
    await store.halt("alice", owner.token, b"why")
    assert await store.instance("alice") == InstanceInfo(
        name="alice",
        sequence=4,
        token=owner.token,
        host="host-1",
        component="sha256:1",
        journal_entries=2,
        journal_bytes=10,
        snapshot_sequence=2,
        snapshot_parts=2,
        snapshot_bytes=5,
        pending=2,
        halt=b"why",
        listed=False,
    )


async def test_what_is_told_of_an_instance_that_only_has_calls(store: Store) -> None:
    await store.enqueue("alice", call("a"), 10)
    assert await store.instance("alice") == InstanceInfo(
        "alice", 0, OwnerToken(0, ""), "", "", 0, 0, 0, 0, 0, 1, None, listed=True
    )
    assert (await store.instances(None, 10)).names == []
    assert await store.peek("alice") is None
    await store.cancel("alice", "a")
    assert await store.instance("alice") is None


async def test_one_that_is_halted_is_known_though_it_has_committed_nothing(store: Store) -> None:
    owner = await own(store)
    assert await store.instance("alice") is None
    await store.halt("alice", owner.token, b"why")
    told = await store.instance("alice")
    assert told is not None and (told.sequence, told.pending, told.halt, told.token) == (0, 0, b"why", owner.token)
    assert (await store.instances(None, 10)).names == []
    await store.halt("alice", owner.token, None)
    assert await store.instance("alice") is None
    await store.halt("alice", owner.token, b"why")
    assert await store.delete_instance("alice") is True
    assert await store.instance("alice") is None


async def test_the_journal_is_paged(store: Store) -> None:
    owner = await own(store)
    await owner.commits(5)
    found, after = [], 0
    while True:
        page = await store.journal("alice", after, 2)
        assert page is not None and (page.trimmed, page.sequence) == (0, 5)
        if not page.records:
            break
        assert page.first == after + 1
        found += page.records
        after = page.first + len(page.records) - 1
    assert found == [JournalRecord(b"e%d" % sequence) for sequence in range(1, 6)]


async def test_the_journal_after_trimming(store: Store) -> None:
    owner = await own(store)
    await owner.commits(6)
    await owner.snapshot(3)
    for after, first, entries in (
        (0, 4, [b"e4", b"e5"]),
        (2, 4, [b"e4", b"e5"]),
        (4, 5, [b"e5", b"e6"]),
        (5, 6, [b"e6"]),
    ):
        page = await store.journal("alice", after, 2)
        assert page is not None and (page.first, page.trimmed, page.sequence) == (first, 3, 6)
        assert [record.entry for record in page.records] == entries
    for after in (6, 7, 100):
        page = await store.journal("alice", after, 2)
        assert page is not None and (page.records, page.trimmed, page.sequence) == ([], 3, 6)


async def test_the_journal_of_an_instance_that_began_anew(store: Store) -> None:
    owner = await own(store)
    await owner.commits(3)
    await owner.commit(fresh=True)
    page = await store.journal("alice", 0, 10)
    assert page is not None and (page.first, page.trimmed, page.sequence) == (4, 3, 4)
    assert page.records == [JournalRecord(b"e4")]


async def test_names_are_paged_in_byte_order(store: Store) -> None:
    names = [*ODD[1:], "Z", "a", "z", "é", "￿"]
    for name in names:
        await (await own(store, name)).commit()
    found: list[str] = []
    cursor = None
    while True:
        page = await store.instances(cursor, 4)
        found += page.names
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.names) == 4
    assert found == sorted(names, key=str.encode)


async def test_a_deleted_instance_leaves_nothing_and_its_neighbours_alone(store: Store) -> None:
    owners = [await own(store, name) for name in ("a", "ab", "a:b", "b")]
    for owner in owners:
        private = BucketAddress(Scope.INSTANCE, "mine", owner.instance)
        await owner.commit(Put(private, "k", b"v"), Put(SHOP, owner.instance, b"v"), result=result("k"))
    assert await store.delete_instance("a") is True
    assert (await store.instances(None, 10)).names == ["a:b", "ab", "b"]
    for owner in owners[1:]:
        await owner.commit()
        private = BucketAddress(Scope.INSTANCE, "mine", owner.instance)
        assert await store.get_many(private, ["k"]) == [b"v"]
        assert await store.result(owner.instance, "k") is not None
    gone = BucketAddress(Scope.INSTANCE, "mine", "a")
    assert await store.get_many(gone, ["k"]) == [None]
    assert (await store.keys(gone, None, 10)).keys == []
    assert await store.count(gone) == 0
    assert await store.get_many(SHOP, ["a"]) == [b"v"]


async def test_what_is_deleted_with_a_note_is_deleted_by_its_owner_only(store: Store, other: Store) -> None:
    private, left = BucketAddress(Scope.INSTANCE, "mine", "alice"), BucketAddress(Scope.WORKER, "left")
    note = Put(left, "alice", b"note")
    former = await own(store, nonce="a")
    await former.commit(Put(private, "k", b"v"))
    present = await own(other, nonce="b")
    with pytest.raises(Fenced):
        await store.delete_instance("alice", Parting(former.token, note))
    assert await store.get_many(private, ["k"]) == [b"v"]
    assert await store.get_many(left, ["alice"]) == [None]
    await present.commit()
    assert await other.delete_instance("alice", Parting(present.token, note)) is True
    assert await store.get_many(private, ["k"]) == [None]
    assert await store.get_many(left, ["alice"]) == [b"note"]
    # Sent again, and late: there is none, one that nobody has claimed, one of another life.
    late = Parting(present.token, Put(left, "alice", b"late"))
    assert await store.delete_instance("alice", late) is False
    await store.enqueue("alice", call("waiting"), 10)
    assert await store.delete_instance("alice", late) is False
    await (await own(store, nonce="c")).commit()
    for parting in (late, Parting(present.token)):
        with pytest.raises(Fenced):
            await store.delete_instance("alice", parting)
    assert len(await store.inbox("alice", 10)) == 1
    assert await store.get_many(left, ["alice"]) == [b"note"]


async def test_private_buckets_of_several_commits_are_deleted(store: Store) -> None:
    owner = await own(store)
    private = [BucketAddress(Scope.INSTANCE, name, "alice") for name in ("one", "two\nlines", "")]
    for number, bucket in enumerate(private):
        await owner.commit(Put(bucket, "k", b"v"), Increment(private[0], f"n{number}", 1))
    await store.delete_instance("alice")
    assert [await store.count(bucket) for bucket in private] == [0, 0, 0]


async def test_purge_leaves_nothing_of_the_worker(world: World, worker: WorkerId) -> None:
    store = await world.open(worker)
    owner = await own(store)
    await owner.commit(
        Put(SHOP, "k", b"v"), result=result("r"), blobs={b"d" * 32: b"x"}, component="sha256:1", open=True
    )
    await owner.commit()
    await owner.snapshot(1)
    await store.enqueue("alice", call("a"), 10)
    await store.keep_component("sha256:1", b"component")
    seen: list[int] = []
    assert await store.purge(seen.append) > 0
    assert seen
    assert await store.peek("alice") is None
    assert await store.instance("alice") is None
    assert await store.result("alice", "r") is None
    assert await store.inbox("alice", 10) == []
    assert await store.component("sha256:1") is None
    assert {digest: count for digest, count in (await store.components()).items() if count} == {}
    assert await store.count(SHOP) == 0
    assert await store.purge(lambda removed: None) == 0
    data = (await store.claim("alice", "n2", "h")).data
    assert (data.sequence, data.snapshot, data.blobs) == (0, None, {})
