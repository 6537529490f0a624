"""The Store contract as tests: each guarantee of `perdure.durable.store`, for every provider.

This file has what every Store needs first: claims, commits, buckets, names and hosts. The others take one subject each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure.durable.effects import BucketAddress, Effect, Put, Remove, Scope
from perdure.durable.records import (
    Commit,
    CommitStatus,
    ForeignApply,
    HostRecord,
    JournalRecord,
    OwnerToken,
    StoredResult,
    WorkerId,
)
from perdure.durable.store import Store
from perdure.errors import Fenced, LostWrites
from providers.owners import ODD, SHOP
from providers.worlds import World


async def test_ping_names_kind_and_durability(store: Store, world: World) -> None:
    found = await store.ping()
    assert found.kind == world.kind
    assert found.durability == world.durability


async def test_a_claim_starts_at_nothing_and_counts_epochs(store: Store) -> None:
    first = await store.claim("alice", "n1", "host-1")
    assert (first.token.epoch, first.data.sequence, first.data.journal, first.data.unapplied) == (1, 0, [], [])
    assert first.previous_host is None
    second = await store.claim("alice", "n2", "host-2")
    assert (second.token.epoch, second.previous_host) == (2, "host-1")


async def test_a_resent_claim_gives_the_same_token(store: Store) -> None:
    assert (await store.claim("alice", "n1", "h")).token == (await store.claim("alice", "n1", "h")).token


async def test_an_instance_keeps_its_life_until_it_is_deleted(store: Store) -> None:
    first = await store.claim("alice", "n1", "h1")
    await store.commit(Commit("alice", first.token, 1, b"x"))
    assert (await store.claim("alice", "n2", "h2")).data.life == first.data.life
    await store.delete_instance("alice")
    assert (await store.claim("alice", "n3", "h1")).data.life != first.data.life


async def test_commit_makes_effects_journal_and_result_visible_together(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    result = StoredResult("key-1", b"f" * 32, b'"done"')
    commit = Commit("alice", token, 1, b"entry-1", effects=[Put(SHOP, "a", b"1"), Put(SHOP, "b", b"2")], result=result)
    assert (await store.commit(commit)).status is CommitStatus.APPLIED
    assert await store.get_many(SHOP, ["a", "b", "c"]) == [b"1", b"2", None]
    assert await store.result("alice", "key-1") == result
    again = await store.claim("alice", "other", "h2")
    assert (again.data.sequence, again.data.journal) == (1, [JournalRecord(b"entry-1")])


async def test_a_resent_commit_is_recognised(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    commit = Commit("alice", token, 1, b"entry", effects=[Put(SHOP, "a", b"1")])
    assert (await store.commit(commit)).status is CommitStatus.APPLIED
    assert (await store.commit(commit)).status is CommitStatus.DUPLICATE
    assert (await store.claim("alice", "n2", "h")).data.journal == [JournalRecord(b"entry")]


async def test_a_former_owner_is_fenced_everywhere(store: Store) -> None:
    old = (await store.claim("alice", "old", "h1")).token
    await store.claim("alice", "new", "h2")
    with pytest.raises(Fenced):
        await store.commit(Commit("alice", old, 1, b"x", effects=[Put(SHOP, "a", b"stale")]))
    with pytest.raises(Fenced):
        await store.verify("alice", old)
    with pytest.raises(Fenced):
        await store.applied("alice", old, 1)
    assert await store.get_many(SHOP, ["a"]) == [None]


async def test_equal_epochs_with_another_nonce_are_fenced(store: Store) -> None:
    token = (await store.claim("alice", "real", "h")).token
    forged = OwnerToken(token.epoch, "forged")
    with pytest.raises(Fenced):
        await store.commit(Commit("alice", forged, 1, b"x"))


async def test_a_gap_in_the_sequence_is_refused(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    with pytest.raises(LostWrites):
        await store.commit(Commit("alice", token, 2, b"x", effects=[Put(SHOP, "a", b"1")]))
    assert await store.get_many(SHOP, ["a"]) == [None]


async def test_a_deleted_instance_fences_its_owner_and_loses_private_buckets(store: Store) -> None:
    private = BucketAddress(Scope.INSTANCE, "mine", "alice")
    token = (await store.claim("alice", "n", "h")).token
    await store.commit(Commit("alice", token, 1, b"x", effects=[Put(private, "k", b"v"), Put(SHOP, "k", b"v")]))
    assert await store.delete_instance("alice") is True
    assert await store.delete_instance("alice") is False
    with pytest.raises(Fenced):
        await store.commit(Commit("alice", token, 2, b"y"))
    assert await store.get_many(private, ["k"]) == [None]
    assert await store.get_many(SHOP, ["k"]) == [b"v"]
    assert await store.instance("alice") is None


async def test_remove_and_overwrite_in_order(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    effects: list[Effect] = [
        Put(SHOP, "a", b"1"), Put(SHOP, "a", b"2"), Put(SHOP, "b", b"1"), Remove(SHOP, "b"), Remove(SHOP, "no"),
    ]  # fmt: skip
    await store.commit(Commit("alice", token, 1, b"x", effects=effects))
    assert await store.get_many(SHOP, ["a", "b"]) == [b"2", None]
    assert (await store.keys(SHOP, None, 10)).keys == ["a"]


@pytest.mark.parametrize("name", ODD)
async def test_any_name_is_safe(store: Store, name: str) -> None:
    bucket = BucketAddress(Scope.INSTANCE, name or "empty", f"i{name}")
    token = (await store.claim(f"i{name}", "n", "h")).token
    result = StoredResult(f"k{name}", b"f" * 32, b"1")
    await store.commit(
        Commit(f"i{name}", token, 1, b"\0\xff", effects=[Put(bucket, name, b"\0\r\n\xff")], result=result)
    )
    assert await store.get_many(bucket, [name]) == [b"\0\r\n\xff"]
    assert (await store.keys(bucket, None, 10)).keys == [name]
    assert (await store.instances(None, 10)).names == [f"i{name}"]
    assert await store.result(f"i{name}", f"k{name}") == result


async def test_scopes_do_not_meet(world: World, worker: WorkerId) -> None:
    mine = await world.open(worker)
    other = await world.open(WorkerId(worker.namespace, "other"))
    stranger = await world.open(WorkerId(worker.namespace + "x", worker.name))
    shared = BucketAddress(Scope.NAMESPACE, "b")
    addresses = [BucketAddress(Scope.WORKER, "b"), BucketAddress(Scope.INSTANCE, "b", "i"), shared]
    token = (await mine.claim("i", "n", "h")).token
    effects = [Put(address, "k", str(number).encode()) for number, address in enumerate(addresses)]
    await mine.commit(Commit("i", token, 1, b"x", effects=effects[:2]))
    await mine.apply_foreign(ForeignApply("elsewhere/i", 1, effects[2:]))
    assert [(await mine.get_many(address, ["k"]))[0] for address in addresses] == [b"0", b"1", b"2"]
    assert [(await other.get_many(address, ["k"]))[0] for address in addresses] == [None, None, b"2"]
    assert [(await stranger.get_many(address, ["k"]))[0] for address in addresses] == [None, None, None]


async def test_keys_are_paged_in_byte_order(store: Store) -> None:
    names = ["b", "a", "é", "z", "🔑", "Z", "aa", "￿"]
    token = (await store.claim("alice", "n", "h")).token
    await store.commit(Commit("alice", token, 1, b"x", effects=[Put(SHOP, name, b"") for name in names]))
    found, cursor = [], None
    while True:
        page = await store.keys(SHOP, cursor, 3)
        found += page.keys
        cursor = page.cursor
        if cursor is None:
            break
    assert found == sorted(names, key=str.encode)
    assert await store.count(SHOP) == len(names)


async def test_values_expire(store: Store, wait: Callable[[float], Awaitable[None]]) -> None:
    token = (await store.claim("alice", "n", "h")).token
    effects = [Put(SHOP, "short", b"1", ttl_ms=300), Put(SHOP, "long", b"2", ttl_ms=60_000), Put(SHOP, "ever", b"3")]
    await store.commit(Commit("alice", token, 1, b"x", effects=effects))
    assert await store.get_many(SHOP, ["short", "long", "ever"]) == [b"1", b"2", b"3"]
    await wait(0.5)
    assert await store.get_many(SHOP, ["short", "long", "ever"]) == [None, b"2", b"3"]
    assert (await store.keys(SHOP, None, 10)).keys == ["ever", "long"]
    await store.commit(Commit("alice", token, 2, b"y", effects=[Put(SHOP, "short", b"again")]))
    assert await store.get_many(SHOP, ["short"]) == [b"again"]


async def test_hosts_find_each_other_and_expire(store: Store, wait: Callable[[float], Awaitable[None]]) -> None:
    one, two = HostRecord("h1", "http://1"), HostRecord("h2", "http://2")
    await store.announce(one, 5000)
    assert set(await store.announce(two, 200)) == {one, two}
    await wait(0.4)
    assert set(await store.announce(one, 5000)) == {one}
    await store.leave("h1")
    assert set(await store.announce(two, 5000)) == {two}


async def test_purge_removes_the_worker_and_nothing_else(world: World, worker: WorkerId) -> None:
    mine, other = await world.open(worker), await world.open(WorkerId(worker.namespace, "other"))
    shared = BucketAddress(Scope.NAMESPACE, "shared")
    for store in (mine, other):
        token = (await store.claim("i", "n", "h")).token
        await store.commit(Commit("i", token, 1, b"x", effects=[Put(SHOP, "k", b"v")]))
        await store.apply_foreign(ForeignApply("elsewhere/i", 1, [Put(shared, "k", b"v")]))
    seen: list[int] = []
    assert await mine.purge(seen.append) > 0
    assert await mine.get_many(SHOP, ["k"]) == [None]
    assert await mine.instance("i") is None
    assert await other.get_many(SHOP, ["k"]) == [b"v"]
    assert await other.get_many(shared, ["k"]) == [b"v"]


async def test_concurrent_commits_of_many_instances(store: Store) -> None:
    async def run(name: str) -> None:
        token = (await store.claim(name, "n", "h")).token
        for sequence in range(1, 11):
            await store.commit(
                Commit(name, token, sequence, b"e%d" % sequence, effects=[Put(SHOP, name, b"%d" % sequence)])
            )

    names = [f"i{number}" for number in range(20)]
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(run(name))
    assert await store.get_many(SHOP, names) == [b"10"] * 20
    info = await store.instance("i7")
    assert info is not None and (info.sequence, info.journal_entries) == (10, 10)


async def test_one_of_two_racing_claimers_wins(world: World, worker: WorkerId) -> None:
    one, two = await world.open(worker), await world.open(worker)
    claims = await asyncio.gather(one.claim("i", "a", "h1"), two.claim("i", "b", "h2"))
    commits = [store.commit(Commit("i", claim.token, 1, b"x")) for store, claim in zip((one, two), claims, strict=True)]
    outcomes = await asyncio.gather(*commits, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Committed", "Fenced"]
