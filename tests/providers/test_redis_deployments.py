"""The Redis provider with replicas, behind Sentinels and on a Redis Cluster: real servers, killed and moved."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from perdure.durable.effects import BucketAddress, Increment, Put, Scope
from perdure.durable.records import CommitStatus, ForeignApply, WorkerId
from perdure.errors import InternalError, LostWrites, ProviderUnavailable
from perdure.providers.redis import Sentinels
from perdure.providers.redis.cluster import slot_of
from perdure.providers.redis.keys import Keys
from providers.failing import patiently
from providers.owners import SHOP, look, own, some_worker
from providers.redis_stores import opened
from support.servers import (
    RedisServer,
    eventually,
    free_port,
    redis_cluster,
    redis_replica,
    redis_sentinels,
    redis_server,
)

SHARED = BucketAddress(Scope.NAMESPACE, "shared")


def _sentinel_config(sentinels: list[RedisServer], **more: Any) -> dict[str, Any]:
    # The first one does not exist: the others are asked.
    urls = (f"redis://127.0.0.1:{free_port()}", *[f"redis://127.0.0.1:{one.port}" for one in sentinels])
    return {"url": "redis://main/0", "sentinels": Sentinels("main", urls), **more}


# Replicas.


async def test_a_commit_is_acknowledged_by_a_replica() -> None:
    with redis_server() as primary, redis_replica(primary) as replica:
        async with opened(primary, wait_replicas=1, timeout=3.0) as store:
            assert (await store.ping()).durability == "D3"
            owner = await own(store)
            for _ in range(20):
                await owner.commit(Increment(SHOP, "n", 1))
                values = next(name for name in replica.do("KEYS", "*:b:shop"))
                assert replica.do("HGET", values, "n") == b"%d" % owner.sequence


async def test_without_a_replica_the_outcome_is_unknown_until_a_resend_finds_one() -> None:
    with redis_server() as primary, redis_replica(primary) as replica:
        async with opened(primary, wait_replicas=1, timeout=0.6) as store:
            owner = await patiently(lambda: own(store))
            assert replica.process is not None
            replica.process.send_signal(signal.SIGSTOP)
            commit = owner.next(Increment(SHOP, "n", 1))
            for _ in range(2):
                # The second one is a DUPLICATE to the server, and no more confirmed than the first.
                with pytest.raises(ProviderUnavailable, match=r"0 of 1 replicas .* outcome is unknown"):
                    await store.commit(commit)
            assert await store.get_many(SHOP, ["n"]) == [b"1"]
            replica.process.send_signal(signal.SIGCONT)
            done = await patiently(lambda: store.commit(commit))
            assert done.status is CommitStatus.DUPLICATE


async def test_too_few_replicas_make_a_provider_unusable() -> None:
    with redis_server() as primary:
        async with opened(primary, wait_replicas=1, timeout=3.0) as store:
            with pytest.raises(ProviderUnavailable, match="has 0 replicas; waitReplicas asks for 1"):
                await store.ping()


async def test_replicas_in_memory_are_no_files() -> None:
    """The control to D3: on a server without WAITAOF, fsync every second."""
    with redis_server("--appendfsync", "everysec") as primary, redis_replica(primary):
        async with opened(primary, wait_replicas=1, timeout=3.0) as store:
            info = await store.ping()
            waits_for_files = primary.do("COMMAND", "INFO", "WAITAOF") != [None]
            assert info.durability == ("D3" if waits_for_files else "D1")
            assert bool(info.warnings) is not waits_for_files


# Sentinels.


@contextlib.contextmanager
def watched(*options: str) -> Iterator[tuple[RedisServer, RedisServer, list[RedisServer]]]:
    """A primary, a replica in step, and a Sentinel that knows both."""
    with redis_server(*options) as primary, redis_replica(primary, *options) as replica:
        with redis_sentinels(primary) as sentinels:
            eventually(lambda: len(sentinels[0].do("SENTINEL", "REPLICAS", "main")) == 1, "a known replica")
            yield primary, replica, sentinels


async def test_a_failover_loses_nothing_that_a_replica_confirmed() -> None:
    worker = some_worker()
    with watched() as (primary, replica, sentinels):
        async with opened(primary, worker, **_sentinel_config(sentinels, wait_replicas=1, timeout=3.0)) as store:
            assert (await store.ping()).durability == "D3"
            owner = await own(store)
            for _ in range(10):
                await owner.commit(Increment(SHOP, "n", 1))
            primary.stop()
            with pytest.raises(ProviderUnavailable):
                await owner.commit(Increment(SHOP, "n", 1))
        # What is left has no replica: a store that asks for none.
        async with opened(replica, worker, **_sentinel_config(sentinels)) as store:
            assert (await patiently(lambda: look(store))).sequence == 10
            assert await store.get_many(SHOP, ["n"]) == [b"10"]


async def test_a_client_follows_a_failover() -> None:
    with watched() as (primary, replica, sentinels):
        async with opened(primary, **_sentinel_config(sentinels)) as store:
            owner = await own(store)
            await owner.commit(Put(SHOP, "a", b"before"))
            eventually(
                lambda: primary.info("master_repl_offset") == replica.info("slave_repl_offset"), "a replica in step"
            )
            primary.stop()
            commit = owner.next(Put(SHOP, "a", b"after"))
            done = await patiently(lambda: store.commit(commit))
            assert done.status is CommitStatus.APPLIED
            assert await store.get_many(SHOP, ["a"]) == [b"after"]
            assert replica.info("role") == "master"
            info = await store.ping()
            assert info.durability == "D2"


async def test_an_ordered_switch_loses_nothing_that_a_replica_confirmed() -> None:
    """The former primary goes on for a while, and then says READONLY. Only what no replica has confirmed is lost."""
    with watched() as (primary, _, sentinels):
        async with opened(primary, **_sentinel_config(sentinels, wait_replicas=1, timeout=3.0)) as store:
            owner = await own(store)
            await owner.commit()
            eventually(lambda: sentinels[0].do("SENTINEL", "FAILOVER", "main") == b"OK", "a replica fit to promote")
            for _ in range(40):
                commit = owner.next(Increment(SHOP, "n", 1))
                await patiently(partial(store.commit, commit))
                owner.sequence += 1
                await asyncio.sleep(0.05)
            eventually(lambda: primary.info("role") == "slave", "a demoted primary")
            commit = owner.next(Increment(SHOP, "n", 1))
            await patiently(partial(store.commit, commit))
            assert (await patiently(lambda: look(store))).sequence == 42
            assert await store.get_many(SHOP, ["n"]) == [b"41"]


async def test_a_failover_that_loses_writes_is_told() -> None:
    with watched() as (primary, replica, sentinels):
        async with opened(primary, **_sentinel_config(sentinels)) as store:
            owner = await own(store)
            await owner.commits(3)
            eventually(
                lambda: primary.info("master_repl_offset") == replica.info("slave_repl_offset"), "a replica in step"
            )
            # The replica cannot come back, and so falls behind.
            replica.do("CONFIG", "SET", "masterauth", "wrong")
            primary.do("CLIENT", "KILL", "TYPE", "replica")
            eventually(lambda: replica.info("master_link_status") == "down", "a replica that has fallen behind")
            await owner.commits(2)
            primary.stop()
            with pytest.raises(LostWrites, match="up to commit 3 only, but it has acknowledged 5"):
                await patiently(owner.commit)
            assert (await look(store)).sequence == 3


async def test_a_sentinel_that_knows_no_such_primary() -> None:
    with redis_server() as primary, redis_sentinels(primary) as sentinels:
        urls = (f"redis://127.0.0.1:{sentinels[0].port}",)
        async with opened(primary, sentinels=Sentinels("other", urls)) as store:
            with pytest.raises(ProviderUnavailable, match="knows no primary 'other': see masterName"):
                await store.ping()


async def test_a_sentinel_that_names_a_replica_is_not_believed() -> None:
    with watched() as (primary, replica, sentinels):
        async with opened(primary, **_sentinel_config(sentinels)) as store:
            await own(store)
            sentinels[0].do("SENTINEL", "SET", "main", "down-after-milliseconds", "60000")
            primary.do("REPLICAOF", "127.0.0.1", free_port())
            with pytest.raises(ProviderUnavailable, match="which is no primary"):
                await store.ping()


# Redis Cluster.


def test_slots_are_as_the_specification_says() -> None:
    assert slot_of("123456789") == 0x31C3
    assert slot_of("{user1000}.following") == slot_of("{user1000}.followers") == slot_of("user1000")
    assert slot_of("foo{}{bar}") == slot_of("foo{}{bar}") != slot_of("")
    assert slot_of("foo{{bar}}zap") == slot_of("{bar")
    assert slot_of("foo{bar}{zap}") == slot_of("bar")


def _owner_of(nodes: list[RedisServer], slot: int) -> RedisServer:
    for first, last, (_, port, *_), *_ in nodes[0].do("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return next(node for node in nodes if node.port == port)
    raise AssertionError(slot)


def _begin_move(slot: int, source: RedisServer, target: RedisServer) -> None:
    target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", source.do("CLUSTER", "MYID"))
    source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.do("CLUSTER", "MYID"))


def _move_keys(slot: int, source: RedisServer, target: RedisServer, count: int) -> int:
    keys = source.do("CLUSTER", "GETKEYSINSLOT", slot, count)
    for key in keys:
        source.do("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    return len(keys)


def _end_move(slot: int, target: RedisServer, nodes: list[RedisServer]) -> None:
    for node in (target, *[node for node in nodes if node is not target]):
        node.do("CLUSTER", "SETSLOT", slot, "NODE", target.do("CLUSTER", "MYID"))


@pytest.fixture
def slot_and_worker() -> tuple[int, WorkerId]:
    worker = some_worker()
    return slot_of(Keys(worker).prefix), worker


async def test_commits_go_on_while_their_slot_moves(
    redis_nodes: list[RedisServer], slot_and_worker: tuple[int, WorkerId]
) -> None:
    slot, worker = slot_and_worker
    source = _owner_of(redis_nodes, slot)
    target = next(node for node in redis_nodes if node is not source)
    async with opened(redis_nodes[0], worker, cluster=True, timeout=0.5) as store:
        owners = [await own(store, f"i{number}") for number in range(4)]
        ending = asyncio.Event()

        async def work(number: int) -> None:
            while not ending.is_set():
                commit = owners[number].next(Increment(SHOP, "n", 1), Put(SHOP, f"i{number}", b"x"))
                await patiently(partial(store.commit, commit))
                owners[number].sequence += 1

        tasks = [asyncio.create_task(work(number)) for number in range(4)]

        async def each_has_gone_on() -> None:
            before = [owner.sequence for owner in owners]
            async with asyncio.timeout(60):
                while any(owner.sequence == at for owner, at in zip(owners, before, strict=True)):
                    await asyncio.sleep(0.01)

        for origin, destination in ((source, target), (target, source)):
            await each_has_gone_on()
            await asyncio.to_thread(_begin_move, slot, origin, destination)
            while await asyncio.to_thread(_move_keys, slot, origin, destination, 3):
                await asyncio.sleep(0.02)
            await asyncio.to_thread(_end_move, slot, destination, redis_nodes)
        await each_has_gone_on()
        ending.set()
        await asyncio.gather(*tasks)
        total = sum(owner.sequence for owner in owners)
        assert total > 8
        assert await store.get_many(SHOP, ["n"]) == [b"%d" % total]
        for owner in owners:
            data = await look(store, owner.instance)
            assert (data.sequence, len(data.journal)) == (owner.sequence, owner.sequence)


async def test_a_half_moved_slot_is_waited_out_and_never_written_to(
    redis_nodes: list[RedisServer], slot_and_worker: tuple[int, WorkerId]
) -> None:
    slot, worker = slot_and_worker
    source = _owner_of(redis_nodes, slot)
    target = next(node for node in redis_nodes if node is not source)
    async with opened(redis_nodes[0], worker, cluster=True, timeout=0.3) as store:
        owner = await own(store)
        await owner.commit(Put(SHOP, "a", b"1"))
        _begin_move(slot, source, target)
        _move_keys(slot, source, target, 2)
        commit = owner.next(Put(SHOP, "a", b"2"))
        for act in (lambda: store.commit(commit), lambda: store.claim("bob", "n", "h"), lambda: look(store)):
            with pytest.raises(ProviderUnavailable, match="slot is being moved"):
                await act()
        while _move_keys(slot, source, target, 10):
            pass
        with pytest.raises(ProviderUnavailable, match="slot is being moved"):
            await store.commit(commit)
        _end_move(slot, target, redis_nodes)
        assert (await patiently(lambda: store.commit(commit))).status is CommitStatus.APPLIED
        assert await store.get_many(SHOP, ["a"]) == [b"2"]
        # And back, for the tests after this one.
        _begin_move(slot, target, source)
        while _move_keys(slot, target, source, 10):
            pass
        _end_move(slot, source, redis_nodes)


async def test_any_member_will_do_to_find_the_slot(redis_nodes: list[RedisServer]) -> None:
    worker = some_worker()
    for number, node in enumerate(redis_nodes, start=1):
        async with opened(node, worker, cluster=True) as store:
            owner = await own(store, nonce=str(node.port))
            await owner.commit()
            assert owner.sequence == number, "what was committed by another member's address is there"
            assert (await store.ping()).kind == "redis"
    assert len(redis_nodes) == 3


async def test_a_namespace_of_another_slot_is_foreign(redis_nodes: list[RedisServer]) -> None:
    async with opened(redis_nodes[0], cluster=True) as store:
        assert store.namespace_is_home is False
        owner = await own(store)
        with pytest.raises(InternalError, match="applied as foreign ones"):
            await owner.commit(Put(SHARED, "a", b"1"), Put(SHOP, "a", b"1"))
        assert await store.get_many(SHOP, ["a"]) == [None]
        with pytest.raises(InternalError, match="not changed together"):
            await store.apply_foreign(ForeignApply("o", 1, [Put(SHARED, "a", b"1"), Put(SHOP, "a", b"1")]))
        apply = ForeignApply("o", 1, [Increment(SHARED, "n", 1)])
        assert (await store.apply_foreign(apply)).status is CommitStatus.APPLIED
        assert (await store.apply_foreign(apply)).status is CommitStatus.DUPLICATE
        assert await store.get_many(SHARED, ["n"]) == [b"1"]
        assert (await store.keys(SHARED, None, 10)).keys == ["n"]
        assert await store.count(SHARED) == 1


async def test_elsewhere_a_namespace_is_home(redis: RedisServer) -> None:
    async with opened(redis) as store:
        assert store.namespace_is_home is True
        await (await own(store)).commit(Put(SHARED, "a", b"1"), Put(SHOP, "a", b"1"))


async def test_a_cluster_must_be_named_as_one(redis: RedisServer, redis_nodes: list[RedisServer]) -> None:
    async with opened(redis_nodes[0]) as store:
        with pytest.raises(ProviderUnavailable, match="set `cluster` for this provider"):
            await store.ping()
        for number in range(20):
            other = WorkerId(f"n{number}", "w")
            if _owner_of(redis_nodes, slot_of(Keys(other).prefix)) is not redis_nodes[0]:
                async with opened(redis_nodes[0], other) as wrong:
                    with pytest.raises(ProviderUnavailable, match="another member of the cluster"):
                        await wrong.claim("alice", "n", "h")
                break
        else:
            raise AssertionError("no Worker of another node")
    async with opened(redis, cluster=True) as store:
        with pytest.raises(ProviderUnavailable):
            await store.ping()


async def test_a_cluster_that_is_down() -> None:
    with redis_cluster() as nodes:
        worker = some_worker()
        owner_node = _owner_of(nodes, slot_of(Keys(worker).prefix))
        other = next(node for node in nodes if node is not owner_node)
        async with opened(owner_node, worker, cluster=True, timeout=0.5) as store:
            owner = await own(store)
            await owner.commit()
            other.stop()
            eventually(lambda: "cluster_state:fail" in owner_node.do("CLUSTER", "INFO").decode(), "a cluster down")
            with pytest.raises(ProviderUnavailable, match=r"the cluster is down"):
                await owner.commit()
            other.start()
            await patiently(owner.commit)
