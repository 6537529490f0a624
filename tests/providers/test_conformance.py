"""The Store contract as tests: each guarantee of `perdure.durable.store`, for every provider."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.durable.effects import BucketAddress, Put, Remove, Scope
from perdure.durable.records import Commit, CommitOutcome, ForeignApply, HostRecord, StoredResult, WorkerId
from perdure.durable.store import Store
from perdure.errors import Fenced, InternalError
from perdure.providers.memory import MemoryStore, MemoryWorld
from perdure.providers.redis import RedisConfig, RedisStore
from perdure.providers.sqlite import SqliteStore
from support.servers import RedisServer

ODD = ["", "a:b", "{x}", "a/b}{", "ключ", "🔑", "nul\0inside", "%2F", "*?[", "line\nbreak", "x" * 500]
SHOP = BucketAddress(Scope.WORKER, "shop")


class World:
    """Opens stores that share one backend, as several hosts do."""

    def __init__(self, kind: str, path: Path, server: RedisServer | None) -> None:
        self.kind = kind
        self._path = path
        self._server = server
        self._memory = MemoryWorld()
        self._opened: list[Store] = []

    async def open(self, worker: WorkerId) -> Store:
        store: Store
        if self.kind == "memory":
            store = MemoryStore(self._memory, worker)
        elif self.kind == "sqlite":
            store = await SqliteStore.open(self._path / "data.sqlite", worker)
        else:
            assert self._server is not None
            store = await RedisStore.open(RedisConfig(self._server.url), worker)
        self._opened.append(store)
        return store

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    server = request.getfixturevalue("redis") if request.param == "redis" else None
    made = World(request.param, tmp_path, server)
    yield made
    await made.close()


@pytest.fixture
def worker() -> WorkerId:
    return WorkerId("ns-" + uuid.uuid4().hex[:8], "carts")


@pytest.fixture
async def store(world: World, worker: WorkerId) -> Store:
    return await world.open(worker)


async def test_ping_names_kind_and_durability(store: Store, world: World) -> None:
    found = await store.ping()
    assert found.kind == world.kind
    assert found.durability == {"memory": "D0", "sqlite": "D2", "redis": "D2"}[world.kind]


async def test_a_claim_starts_at_nothing_and_counts_epochs(store: Store) -> None:
    first = await store.claim("alice", "n1", "host-1")
    assert (first.token.epoch, first.sequence, first.journal, first.unapplied) == (1, 0, [], [])
    assert first.previous_host is None
    second = await store.claim("alice", "n2", "host-2")
    assert (second.token.epoch, second.previous_host) == (2, "host-1")


async def test_a_resent_claim_gives_the_same_token(store: Store) -> None:
    assert (await store.claim("alice", "n1", "h")).token == (await store.claim("alice", "n1", "h")).token


async def test_an_instance_keeps_its_life_until_it_is_deleted(store: Store) -> None:
    first = await store.claim("alice", "n1", "h1")
    await store.commit(Commit("alice", first.token, 1, b"x"))
    assert (await store.claim("alice", "n2", "h2")).life == first.life
    await store.delete_instance("alice")
    assert (await store.claim("alice", "n3", "h1")).life != first.life


async def test_commit_makes_effects_journal_and_result_visible_together(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    result = StoredResult("key-1", b"f" * 32, b'"done"')
    commit = Commit("alice", token, 1, b"entry-1", [Put(SHOP, "a", b"1"), Put(SHOP, "b", b"2")], result)
    assert await store.commit(commit) is CommitOutcome.APPLIED
    assert await store.get_many(SHOP, ["a", "b", "c"]) == [b"1", b"2", None]
    assert await store.result("alice", "key-1") == result
    again = await store.claim("alice", "other", "h2")
    assert (again.sequence, again.journal) == (1, [b"entry-1"])


async def test_a_resent_commit_is_recognised(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    commit = Commit("alice", token, 1, b"entry", [Put(SHOP, "a", b"1")])
    assert await store.commit(commit) is CommitOutcome.APPLIED
    assert await store.commit(commit) is CommitOutcome.DUPLICATE
    assert (await store.claim("alice", "n2", "h")).journal == [b"entry"]


async def test_a_former_owner_is_fenced_everywhere(store: Store) -> None:
    old = (await store.claim("alice", "old", "h1")).token
    await store.claim("alice", "new", "h2")
    with pytest.raises(Fenced):
        await store.commit(Commit("alice", old, 1, b"x", [Put(SHOP, "a", b"stale")]))
    with pytest.raises(Fenced):
        await store.verify("alice", old)
    with pytest.raises(Fenced):
        await store.applied("alice", old, 1)
    assert await store.get_many(SHOP, ["a"]) == [None]


async def test_equal_epochs_with_another_nonce_are_fenced(store: Store) -> None:
    token = (await store.claim("alice", "real", "h")).token
    forged = type(token)(token.epoch, "forged")
    with pytest.raises(Fenced):
        await store.commit(Commit("alice", forged, 1, b"x"))


async def test_a_gap_in_the_sequence_is_refused(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    with pytest.raises(InternalError):
        await store.commit(Commit("alice", token, 2, b"x", [Put(SHOP, "a", b"1")]))
    assert await store.get_many(SHOP, ["a"]) == [None]


async def test_a_deleted_instance_fences_its_owner_and_loses_private_buckets(store: Store) -> None:
    private = BucketAddress(Scope.INSTANCE, "mine", "alice")
    token = (await store.claim("alice", "n", "h")).token
    await store.commit(Commit("alice", token, 1, b"x", [Put(private, "k", b"v"), Put(SHOP, "k", b"v")]))
    assert await store.delete_instance("alice") is True
    assert await store.delete_instance("alice") is False
    with pytest.raises(Fenced):
        await store.commit(Commit("alice", token, 2, b"y"))
    assert await store.get_many(private, ["k"]) == [None]
    assert await store.get_many(SHOP, ["k"]) == [b"v"]
    assert await store.instance("alice") is None


async def test_remove_and_overwrite_in_order(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    effects = [Put(SHOP, "a", b"1"), Put(SHOP, "a", b"2"), Put(SHOP, "b", b"1"), Remove(SHOP, "b"), Remove(SHOP, "no")]
    await store.commit(Commit("alice", token, 1, b"x", effects))
    assert await store.get_many(SHOP, ["a", "b"]) == [b"2", None]
    assert (await store.keys(SHOP, None, 10)).keys == ["a"]


@pytest.mark.parametrize("name", ODD)
async def test_any_name_is_safe(store: Store, name: str) -> None:
    bucket = BucketAddress(Scope.INSTANCE, name or "empty", f"i{name}")
    token = (await store.claim(f"i{name}", "n", "h")).token
    result = StoredResult(f"k{name}", b"f" * 32, b"1")
    await store.commit(Commit(f"i{name}", token, 1, b"\0\xff", [Put(bucket, name, b"\0\r\n\xff")], result))
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
    await mine.commit(Commit("i", token, 1, b"x", effects))
    assert [(await mine.get_many(address, ["k"]))[0] for address in addresses] == [b"0", b"1", b"2"]
    assert [(await other.get_many(address, ["k"]))[0] for address in addresses] == [None, None, b"2"]
    assert [(await stranger.get_many(address, ["k"]))[0] for address in addresses] == [None, None, None]


async def test_keys_are_paged_in_byte_order(store: Store) -> None:
    names = ["b", "a", "é", "z", "🔑", "Z", "aa", "￿"]
    token = (await store.claim("alice", "n", "h")).token
    await store.commit(Commit("alice", token, 1, b"x", [Put(SHOP, name, b"") for name in names]))
    found, cursor = [], None
    while True:
        page = await store.keys(SHOP, cursor, 3)
        found += page.keys
        cursor = page.cursor
        if cursor is None:
            break
    assert found == sorted(names, key=str.encode)
    assert await store.count(SHOP) == len(names)


async def test_values_expire(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    effects = [Put(SHOP, "short", b"1", ttl_ms=300), Put(SHOP, "long", b"2", ttl_ms=60_000), Put(SHOP, "ever", b"3")]
    await store.commit(Commit("alice", token, 1, b"x", effects))
    assert await store.get_many(SHOP, ["short", "long", "ever"]) == [b"1", b"2", b"3"]
    await asyncio.sleep(0.5)
    assert await store.get_many(SHOP, ["short", "long", "ever"]) == [None, b"2", b"3"]
    assert (await store.keys(SHOP, None, 10)).keys == ["ever", "long"]
    await store.commit(Commit("alice", token, 2, b"y", [Put(SHOP, "short", b"again")]))
    assert await store.get_many(SHOP, ["short"]) == [b"again"]


async def test_results_are_bounded_in_number_and_age(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    for number in range(1, 6):
        result = StoredResult(f"k{number}", b"f" * 32, b"1")
        await store.commit(Commit("alice", token, number, b"x", (), result, max_results=3))
    kept = [await store.result("alice", f"k{number}") is not None for number in range(1, 6)]
    assert kept == [False, False, True, True, True]
    brief = StoredResult("brief", b"f" * 32, b"1")
    await store.commit(Commit("alice", token, 6, b"x", (), brief, result_retention_ms=50))
    await asyncio.sleep(0.2)
    assert await store.result("alice", "brief") is None


async def test_commits_without_a_result_push_none_out(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    for number in range(1, 12):
        result = StoredResult(f"k{number}", b"f" * 32, b"1") if number in (1, 2, 10, 11) else None
        await store.commit(Commit("alice", token, number, b"x", (), result, max_results=3))
    kept = [number for number in range(1, 12) if await store.result("alice", f"k{number}") is not None]
    assert kept == [2, 10, 11]


async def test_foreign_effects_apply_once_and_in_order(store: Store) -> None:
    first = ForeignApply("w/alice", 1, [Put(SHOP, "n", b"1")])
    assert await store.apply_foreign(first) is CommitOutcome.APPLIED
    assert await store.apply_foreign(ForeignApply("w/alice", 2, [Put(SHOP, "n", b"2")])) is CommitOutcome.APPLIED
    assert await store.apply_foreign(first) is CommitOutcome.DUPLICATE
    assert await store.get_many(SHOP, ["n"]) == [b"2"]
    assert await store.apply_foreign(ForeignApply("w/bob", 1, [])) is CommitOutcome.APPLIED


async def test_unapplied_sequences_are_kept_until_confirmed(store: Store) -> None:
    token = (await store.claim("alice", "n", "h")).token
    await store.commit(Commit("alice", token, 1, b"x", foreign=True))
    await store.commit(Commit("alice", token, 2, b"y", foreign=True))
    await store.applied("alice", token, 1)
    assert (await store.claim("alice", "m", "h")).unapplied == [2]


async def test_hosts_find_each_other_and_expire(store: Store) -> None:
    one, two = HostRecord("h1", "http://1"), HostRecord("h2", "http://2")
    await store.announce(one, 5000)
    assert set(await store.announce(two, 200)) == {one, two}
    await asyncio.sleep(0.4)
    assert set(await store.announce(one, 5000)) == {one}
    await store.leave("h1")
    assert set(await store.announce(two, 5000)) == {two}


async def test_purge_removes_the_worker_and_nothing_else(world: World, worker: WorkerId) -> None:
    mine, other = await world.open(worker), await world.open(WorkerId(worker.namespace, "other"))
    shared = BucketAddress(Scope.NAMESPACE, "shared")
    for store in (mine, other):
        token = (await store.claim("i", "n", "h")).token
        await store.commit(Commit("i", token, 1, b"x", [Put(SHOP, "k", b"v"), Put(shared, "k", b"v")]))
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
            await store.commit(Commit(name, token, sequence, b"e%d" % sequence, [Put(SHOP, name, b"%d" % sequence)]))

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
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["CommitOutcome", "Fenced"]


class NoTokenCheck(MemoryStore):
    """A deliberately wrong store: the control that the fencing test has teeth."""

    async def commit(self, commit: Commit) -> CommitOutcome:
        return await super().commit(
            Commit(
                commit.instance, self._instances[commit.instance].token, commit.sequence, commit.entry, commit.effects
            )
        )


async def test_control_a_store_without_token_check_fails_the_fencing_test() -> None:
    with pytest.raises(pytest.fail.Exception):
        await test_a_former_owner_is_fenced_everywhere(NoTokenCheck(MemoryWorld(), WorkerId("n", "w")))
