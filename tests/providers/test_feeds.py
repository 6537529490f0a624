"""Feeds of watched buckets: every change, once, in the order of the commits, for those who watch and nobody else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from perdure.durable.effects import COUNTER_MAX, BucketAddress, Effect, Increment, Put, Remove, Scope, Swap
from perdure.durable.feeds import PAGE_BYTES, Change, FeedBounds, FeedPage
from perdure.durable.records import CommitStatus, ForeignApply, WorkerId
from perdure.durable.store import Store
from perdure.errors import FeedFull
from providers.owners import ODD, SHOP, own, result
from providers.worlds import World

Wait = Callable[[float], Awaitable[None]]
BOUNDS = FeedBounds(1000, 1 << 20)
SHARED = BucketAddress(Scope.NAMESPACE, "shared")
OTHER = BucketAddress(Scope.WORKER, "other")


async def page(store: Store, bucket: BucketAddress = SHOP, after: int = 0, limit: int = 1000) -> FeedPage:
    found = await store.changes(bucket, after, limit)
    assert found is not None
    return found


async def told(store: Store, bucket: BucketAddress = SHOP) -> list[tuple[str, bytes | None]]:
    """What the watching instance is to be told."""
    return [(change.key, change.value) for change in (await page(store, bucket)).changes if not change.own]


async def write(store: Store, bucket: BucketAddress, *effects: Effect) -> None:
    """As a caller of the HTTP API."""
    assert {effect.bucket for effect in effects} == {bucket}
    done = await store.apply_foreign(ForeignApply("", 0, effects))
    assert done.status is CommitStatus.APPLIED


async def test_each_change_is_in_the_feed_once_and_in_order(store: Store) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)
    alice = await own(store)
    await alice.commit(
        Put(SHOP, "a", b"1"), Put(SHOP, "a", b"2"), Increment(SHOP, "a", 5), Swap(SHOP, "a", b"7", b"8"),
        Remove(SHOP, "a"), Increment(SHOP, "a", 3), Put(OTHER, "a", b"elsewhere"),
    )  # fmt: skip
    found = await page(store)
    assert [(one.key, one.value) for one in found.changes] == [
        ("a", b"1"), ("a", b"2"), ("a", b"7"), ("a", b"8"), ("a", None), ("a", b"3"),
    ]  # fmt: skip
    assert [one.number for one in found.changes] == [1, 2, 3, 4, 5, 6]
    assert found.reached == 0 and not any(one.own for one in found.changes)
    await alice.commit(Put(SHOP, "b", b""))
    assert (await page(store, after=6)).changes == [Change(7, "b", b"")]


async def test_what_changes_nothing_is_no_change(store: Store) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)
    alice = await own(store)
    await alice.commit(
        Put(SHOP, "text", b"x"), Put(SHOP, "top", b"%d" % COUNTER_MAX),
    )  # fmt: skip
    await alice.commit(
        Remove(SHOP, "never"), Increment(SHOP, "text", 1), Increment(SHOP, "top", 1), Swap(SHOP, "text", None, b"y"),
        Swap(SHOP, "text", b"z", b"y"),
    )  # fmt: skip
    assert await told(store) == [("text", b"x"), ("top", b"%d" % COUNTER_MAX)]


async def test_a_value_that_expires_is_no_change_and_deleting_it_is_none(store: Store, wait: Wait) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)
    alice = await own(store)
    await alice.commit(Put(SHOP, "brief", b"1", ttl_ms=300), Put(SHOP, "briefer", b"1", ttl_ms=200))
    await wait(0.5)
    await alice.commit(Remove(SHOP, "brief"), Increment(SHOP, "n", 1), Put(SHOP, "last", b"1", ttl_ms=60_000))
    assert sorted(await told(store)) == [("brief", b"1"), ("briefer", b"1"), ("last", b"1"), ("n", b"1")]


async def test_nothing_is_kept_where_nobody_watches(store: Store) -> None:
    alice = await own(store)
    await alice.commit(Put(SHOP, "before", b"1"), Put(OTHER, "k", b"1"))
    assert await store.changes(SHOP, 0, 10) is None
    await store.watch(SHOP, "watcher", BOUNDS)
    await alice.commit(Put(SHOP, "after", b"1"), Put(OTHER, "k", b"2"))
    assert await told(store) == [("after", b"1")]
    assert await store.changes(OTHER, 0, 10) is None
    await store.unwatch(SHOP, 0)
    await alice.commit(Put(SHOP, "later", b"1"))
    assert await store.changes(SHOP, 0, 10) is None
    # A later feed is another one: what was told of the former one says nothing of it.
    await store.watch(SHOP, "watcher", BOUNDS)
    assert (await page(store)).changes == []


async def test_a_feed_is_told_from_the_one_before_it(store: Store) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)
    former = (await page(store)).life
    await store.unwatch(SHOP, 0)
    await store.watch(SHOP, "watcher", BOUNDS)
    await (await own(store)).commit(Put(SHOP, "k", b"1"))
    assert (await page(store)).life != former
    await store.told(SHOP, former, 1)
    assert await told(store) == [("k", b"1")]


async def test_a_resent_commit_adds_nothing(store: Store) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)
    alice = await own(store)
    commit = alice.next(Put(SHOP, "k", b"1"), Increment(SHOP, "n", 1))
    await store.commit(commit)
    assert (await store.commit(commit)).status is CommitStatus.DUPLICATE
    apply = ForeignApply("elsewhere", 1, [Put(SHOP, "k", b"2")], "bob")
    await store.apply_foreign(apply)
    assert (await store.apply_foreign(apply)).status is CommitStatus.DUPLICATE
    assert sorted(await told(store)) == [("k", b"1"), ("k", b"2"), ("n", b"1")]


async def test_a_refused_commit_adds_nothing(store: Store) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)
    alice = await own(store)
    await alice.commit(result=result("key"))
    refused = alice.next(Put(SHOP, "k", b"1"), result=result("key"))
    assert (await store.commit(refused)).status is CommitStatus.KEY_USED
    assert await told(store) == []


async def test_the_watching_instance_is_not_told_of_its_own_changes(store: Store) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)
    watcher = await own(store, "watcher")
    await watcher.commit(Put(SHOP, "mine", b"1"))
    await store.apply_foreign(ForeignApply("of another store", 1, [Put(SHOP, "mine", b"2")], "watcher"))
    assert (await page(store)).changes == [], "nobody else watches"
    await (await own(store)).commit(Put(SHOP, "k", b"1"))
    await write(store, SHOP, Put(SHOP, "k", b"2"))
    assert await told(store) == [("k", b"1"), ("k", b"2")]


async def test_the_watching_instance_may_become_another_one(store: Store) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)
    alice = await own(store)
    await alice.commit(Put(SHOP, "a", b"1"))
    await store.told(SHOP, (await page(store)).life, 1)
    await store.watch(SHOP, "alice", BOUNDS)
    await alice.commit(Put(SHOP, "mine", b"1"))
    await (await own(store, "watcher")).commit(Put(SHOP, "theirs", b"1"))
    found = await page(store)
    assert found.reached == 1 and [(one.key, one.own) for one in found.changes] == [("theirs", False)]


async def test_changes_go_when_they_were_told(store: Store) -> None:
    await store.watch(SHOP, "watcher", FeedBounds(5, 1 << 20))
    alice = await own(store)
    for number in range(1, 6):
        await alice.commit(Put(SHOP, "k", b"%d" % number))
    found = await page(store, limit=2)
    assert [one.number for one in found.changes] == [1, 2]
    assert [one.number for one in (await page(store, after=2, limit=2)).changes] == [3, 4]
    with pytest.raises(FeedFull):
        await alice.commit(Put(SHOP, "k", b"6"))
    await store.told(SHOP, found.life, 3)
    await store.told(SHOP, found.life, 1)
    now = await page(store)
    assert (now.reached, [one.number for one in now.changes]) == (3, [4, 5])
    await alice.commit(Put(SHOP, "k", b"6"))
    # Nobody can have been told of what is not there yet.
    await store.told(SHOP, found.life, 100)
    await alice.commit(Put(SHOP, "k", b"7"))
    assert await told(store) == [("k", b"7")]


@pytest.mark.parametrize("bounds", [FeedBounds(3, 1 << 20), FeedBounds(1000, 3 * 105)], ids=["changes", "bytes"])
async def test_a_full_feed_refuses_the_whole_commit_and_names_the_bucket(store: Store, bounds: FeedBounds) -> None:
    bucket = dataclasses.replace(SHOP, name="ключ/{x}")
    await store.watch(bucket, "watcher", bounds)
    alice = await own(store)
    await alice.commit(*(Put(bucket, f"key-{number}", b"v" * 100) for number in range(4)))
    with pytest.raises(FeedFull, match="'ключ/{x}'") as refused:
        await alice.commit(Put(bucket, "k", b"1"), Put(OTHER, "k", b"1"), result=result("key"))
    assert refused.value.http_status == 503 and refused.value.retryable
    with pytest.raises(FeedFull, match="'ключ/{x}'"):
        await store.apply_foreign(ForeignApply("elsewhere", 1, [Increment(bucket, "n", 1)], "bob"))
    assert await store.get_many(bucket, ["k", "n"]) == [None, None]
    assert await store.get_many(OTHER, ["k"]) == [None]
    assert await store.result("alice", "key") is None
    # Whoever reads, or writes elsewhere, or is the watching instance, is not kept from it.
    await alice.commit(Put(OTHER, "k", b"2"))
    await (await own(store, "watcher")).commit(Put(bucket, "own", b"1"))
    await store.told(bucket, (await page(store, bucket)).life, 4)
    await alice.commit(Put(bucket, "k", b"1"))
    done = await store.apply_foreign(ForeignApply("elsewhere", 1, [Increment(bucket, "n", 1)], "bob"))
    assert done.status is CommitStatus.APPLIED
    assert await told(store, bucket) == [("k", b"1"), ("n", b"1")]


async def test_a_page_is_bounded_by_bytes(store: Store) -> None:
    await store.watch(SHOP, "watcher", FeedBounds(100, 1 << 30))
    alice = await own(store)
    value = b"v" * (PAGE_BYTES // 2)
    for number in range(3):
        await alice.commit(Put(SHOP, f"k{number}", value))
    first = await page(store)
    assert [one.number for one in first.changes] == [1, 2]
    assert first.changes[0].value == value
    assert [one.number for one in (await page(store, after=2)).changes] == [3]


async def test_names_keys_and_values_are_any(store: Store, worker: WorkerId, world: World) -> None:
    strange = await world.open(dataclasses.replace(worker, name="{a}:b/%"))
    for name in (name for name in ODD if name):
        bucket = BucketAddress(Scope.WORKER, name)
        await strange.watch(bucket, name, BOUNDS)
        effects = [Put(bucket, key, key.encode() + b"\0\xff") for key in ODD]
        await (await own(strange, f"{name}2")).commit(*effects)
        found = dict(await told(strange, bucket))
        assert found == {key: key.encode() + b"\0\xff" for key in ODD}
        assert await store.changes(bucket, 0, 10) is None
    assert sorted((one.bucket.name, one.instance) for one in await strange.watches()) == sorted(
        (name, name) for name in ODD if name
    )


async def test_workers_of_a_namespace_watch_its_bucket_each_for_itself(
    store: Store, worker: WorkerId, world: World
) -> None:
    there = await world.open(dataclasses.replace(worker, name="catalog"))
    elsewhere = await world.open(dataclasses.replace(worker, namespace=worker.namespace + "-2"))
    await store.watch(SHARED, "watcher", BOUNDS)
    await there.watch(SHARED, "watcher", BOUNDS)
    await write(there, SHARED, Put(SHARED, "k", b"1"))
    await elsewhere.apply_foreign(ForeignApply("", 0, [Put(SHARED, "not-here", b"1")]))
    # Of two instances of one name, in two Workers, each is told of what the other does.
    await there.apply_foreign(ForeignApply("x", 1, [Put(SHARED, "theirs", b"1")], "watcher"))
    await store.apply_foreign(ForeignApply("y", 1, [Put(SHARED, "mine", b"1")], "watcher"))
    assert await told(store, SHARED) == [("k", b"1"), ("theirs", b"1")]
    assert await told(there, SHARED) == [("k", b"1"), ("mine", b"1")]
    life = (await page(store, SHARED)).life
    await store.told(SHARED, life, 3)
    assert await told(store, SHARED) == []
    assert await told(there, SHARED) == [("k", b"1"), ("mine", b"1")], "the slowest one holds the feed"
    await there.unwatch(SHARED, 0)
    await write(store, SHARED, Put(SHARED, "k", b"2"))
    assert await told(store, SHARED) == [("k", b"2")]


async def test_a_watch_ends_unless_it_is_renewed(store: Store, other: Store, wait: Wait) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)
    await store.watch(SHARED, "second", BOUNDS)
    await wait(0.4)
    await other.watch(SHARED, "second", BOUNDS)
    found = {one.bucket: one for one in await store.watches()}
    assert set(found) == {SHOP, SHARED}
    assert found[SHOP].instance == "watcher" and found[SHOP].idle_ms >= 400 > found[SHARED].idle_ms
    for bucket in (SHOP, SHARED, OTHER):
        await other.unwatch(bucket, 400)
    assert [one.bucket for one in await store.watches()] == [SHARED]
    assert await store.changes(SHOP, 0, 10) is None


async def test_a_purge_ends_watches_and_leaves_those_of_others(store: Store, worker: WorkerId, world: World) -> None:
    there = await world.open(dataclasses.replace(worker, name="catalog"))
    for watching in (store, there):
        await watching.watch(SHARED, "watcher", FeedBounds(2, 1 << 20))
        await watching.watch(SHOP, "watcher", BOUNDS)
        await (await own(watching)).commit(Put(SHOP, "k", b"1"))
    await write(store, SHARED, Put(SHARED, "k", b"1"))
    assert await store.purge(lambda removed: None) > 0
    assert await store.watches() == []
    assert await store.changes(SHARED, 0, 10) is None and await store.changes(SHOP, 0, 10) is None
    assert await told(there, SHARED) == [("k", b"1")] and await told(there) == [("k", b"1")]
    assert await store.purge(lambda removed: None) == 0


async def test_commits_that_meet_are_numbered_without_gaps_and_in_the_order_of_each_key(
    store: Store, other: Store
) -> None:
    await store.watch(SHOP, "watcher", BOUNDS)

    async def run(number: int) -> None:
        owner = await own((store, other)[number % 2], f"i{number}")
        for _ in range(5):
            await owner.commit(Increment(SHOP, "n", 1), Put(SHOP, f"k{number}", b"%d" % owner.sequence))

    await asyncio.gather(*(run(number) for number in range(6)))
    found = (await page(store)).changes
    assert [one.number for one in found] == list(range(1, 61))
    assert [one.value for one in found if one.key == "n"] == [b"%d" % number for number in range(1, 31)]
    for number in range(6):
        assert [one.value for one in found if one.key == f"k{number}"] == [b"%d" % at for at in range(5)]


async def test_a_watch_that_was_answered_misses_nothing(store: Store, other: Store) -> None:
    begun, answered = asyncio.Event(), asyncio.Event()
    seen = 0

    async def run(number: int) -> None:
        owner = await own(other, f"i{number}")
        left = 10
        while left:
            await owner.commit(Increment(SHOP, "n", 1))
            begun.set()
            left -= answered.is_set()
            await asyncio.sleep(0)

    async def watch() -> None:
        nonlocal seen
        await begun.wait()
        await store.watch(SHOP, "watcher", BOUNDS)
        (value,) = await other.get_many(SHOP, ["n"])
        seen = int(value or b"0")
        answered.set()

    await asyncio.gather(watch(), *(run(number) for number in range(6)))
    (last,) = await other.get_many(SHOP, ["n"])
    values = [int(value or b"") for _, value in await told(store)]
    assert values == list(range(values[0], int(last or b"") + 1)), "no gaps, up to the last one"
    assert values[0] <= seen + 1
