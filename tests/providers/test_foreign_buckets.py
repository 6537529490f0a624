"""Buckets by way of foreign effects alone: what every provider gives there, those that are no homes included."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from perdure.durable.effects import (
    COUNTER_MAX,
    BucketAddress,
    Conflict,
    Counted,
    Effect,
    Increment,
    Outcome,
    Put,
    Refused,
    Remove,
    Scope,
    Swap,
    Swapped,
    counted,
)
from perdure.durable.records import CommitStatus, ForeignApply, WorkerId
from perdure.durable.store import ForeignStore
from providers.owners import ODD, SHOP
from providers.test_atomics import COUNTERS, DELTAS, NOT_COUNTERS
from providers.worlds import ForeignWorld

Wait = Callable[[float], Awaitable[None]]


class Sender:
    """An instance elsewhere. `apply` takes the next sequence."""

    def __init__(self, store: ForeignStore, origin: str = "home/alice/life-1") -> None:
        self.store = store
        self.origin = origin
        self.sequence = 0

    async def apply(self, *effects: Effect) -> list[Outcome]:
        self.sequence += 1
        return await self.again(*effects, status=CommitStatus.APPLIED)

    async def again(self, *effects: Effect, status: CommitStatus = CommitStatus.DUPLICATE) -> list[Outcome]:
        done = await self.store.apply_foreign(ForeignApply(self.origin, self.sequence, effects))
        assert done.status is status
        return done.outcomes


async def test_ping_names_kind_durability_and_guarantee(
    away: ForeignStore, foreign_world: ForeignWorld[ForeignStore]
) -> None:
    found = await away.ping()
    assert (found.kind, found.durability) == (foreign_world.kind, foreign_world.durability)
    assert found.guarantee == "exactly-once"
    assert found.version[:1].isalnum()
    assert await away.ping() == found


async def test_effects_are_applied_in_their_order(away: ForeignStore) -> None:
    effects: list[Effect] = [
        Put(SHOP, "a", b"1"), Increment(SHOP, "a", 1), Swap(SHOP, "a", b"2", b"9"), Increment(SHOP, "a", 1),
        Remove(SHOP, "a"), Increment(SHOP, "a", 4), Put(SHOP, "b", b"1"), Put(SHOP, "b", b"2"), Remove(SHOP, "b"),
        Put(SHOP, "c", b"1"), Swap(SHOP, "b", None, b"3"), Remove(SHOP, "never"),
    ]  # fmt: skip
    expected = [Counted(2), Swapped(), Counted(10), Counted(4), Swapped()]
    sender = Sender(away)
    assert await sender.apply(*effects) == expected
    assert await sender.again(*effects) == expected
    assert await away.get_many(SHOP, ["c", "a", "b", "never", "a"]) == [b"1", b"4", b"3", None, b"4"]
    assert (await away.keys(SHOP, None, 10)).keys == ["a", "b", "c"]
    assert await away.count(SHOP) == 3


async def test_a_resend_does_not_overwrite_what_another_wrote_since(away: ForeignStore, away_too: ForeignStore) -> None:
    one, two = Sender(away), Sender(away_too, "home/bob/life-1")
    await one.apply(Put(SHOP, "k", b"one"), Remove(SHOP, "gone"), Put(SHOP, "kept", b"1"))
    await two.apply(Put(SHOP, "k", b"two"), Put(SHOP, "gone", b"back"))
    for store in (away, away_too):
        one.store = store
        await one.again(Put(SHOP, "k", b"one"), Remove(SHOP, "gone"), Put(SHOP, "kept", b"1"))
    assert await away.get_many(SHOP, ["k", "gone", "kept"]) == [b"two", b"back", b"1"]


async def test_a_resend_does_not_bring_back_what_another_deleted(away: ForeignStore, away_too: ForeignStore) -> None:
    one, two = Sender(away), Sender(away_too, "home/bob/life-1")
    await one.apply(Increment(SHOP, "n", 5), Put(SHOP, "k", b"one"))
    await two.apply(Remove(SHOP, "n"), Remove(SHOP, "k"))
    assert await one.again(Increment(SHOP, "n", 5), Put(SHOP, "k", b"one")) == [Counted(5)]
    assert await away.get_many(SHOP, ["n", "k"]) == [None, None]
    assert (await away.keys(SHOP, None, 10)).keys == []


async def test_effects_that_meet_are_all_applied(foreign_world: ForeignWorld[ForeignStore], worker: WorkerId) -> None:
    stores = [await foreign_world.open(worker) for _ in range(3)]

    async def run(number: int) -> None:
        chance = random.Random(number)
        sender = Sender(stores[number % 3], f"home/i{number}/life-1")
        for _ in range(5):
            effects = Increment(SHOP, "n", 1), Put(SHOP, f"k{number}", b"%d" % sender.sequence), Put(SHOP, "all", b"x")
            sender.sequence += 1
            while True:
                # Some of them are sent twice, at once or one after the other, as after a reply that was lost.
                sent = [sender.store.apply_foreign(ForeignApply(sender.origin, sender.sequence, effects))]
                if chance.random() < 0.5:
                    sent.append(stores[0].apply_foreign(ForeignApply(sender.origin, sender.sequence, effects)))
                done = await asyncio.gather(*sent)
                statuses = [one.status for one in done]
                assert statuses.count(CommitStatus.APPLIED) == 1
                assert len({str(one.outcomes) for one in done}) == 1
                break

    await asyncio.gather(*(run(number) for number in range(8)))
    assert await stores[1].get_many(SHOP, ["n", "all"]) == [b"40", b"x"]


@pytest.mark.parametrize("value", NOT_COUNTERS)
async def test_what_is_not_a_counter(away: ForeignStore, value: bytes) -> None:
    found = await Sender(away).apply(Put(SHOP, "n", value), Increment(SHOP, "n", 1), Put(SHOP, "after", b"1"))
    assert found == [Refused("not-a-counter")]
    assert await Sender(away, "other").apply(Increment(SHOP, "n", 1)) == [Refused("not-a-counter")]
    assert await away.get_many(SHOP, ["n", "after"]) == [value, b"1"]


async def test_counters_are_exact_over_64_bits(away: ForeignStore) -> None:
    sender = Sender(away)
    for value in COUNTERS:
        for delta in DELTAS:
            await sender.apply(Put(SHOP, "n", value))
            expected = counted(value, delta)
            assert await sender.apply(Increment(SHOP, "n", delta)) == [expected], (value, delta)
            kept = b"%d" % expected.value if isinstance(expected, Counted) else value
            assert await away.get_many(SHOP, ["n"]) == [kept]
    assert await sender.apply(
        Put(SHOP, "n", b"%d" % COUNTER_MAX), Increment(SHOP, "n", 1), Increment(SHOP, "n", -1)
    ) == [
        Refused("overflow"),
        Counted(COUNTER_MAX - 1),
    ]


async def test_swaps_and_empty_values(away: ForeignStore) -> None:
    sender = Sender(away)
    steps: list[tuple[bytes | None, bytes, Outcome]] = [
        (b"", b"1", Conflict(None)), (None, b"", Swapped()), (None, b"1", Conflict(b"")), (b"", b"\0", Swapped()),
        (b"0", b"2", Conflict(b"\0")), (b"\0", b"2", Swapped()),
    ]  # fmt: skip
    for expected, value, outcome in steps:
        assert await sender.apply(Swap(SHOP, "a", expected, value)) == [outcome]
        assert await sender.again(Swap(SHOP, "a", expected, value)) == [outcome]
    assert await away.get_many(SHOP, ["a"]) == [b"2"]


async def test_times_to_live(away: ForeignStore, away_wait: Wait) -> None:
    sender = Sender(away)
    await sender.apply(
        Put(SHOP, "short", b"1", ttl_ms=700), Put(SHOP, "long", b"2", ttl_ms=60_000), Put(SHOP, "ever", b"3"),
        Increment(SHOP, "new", 1, ttl_ms=700), Put(SHOP, "brief", b"1", ttl_ms=700), Put(SHOP, "to-ever", b"1", ttl_ms=700),
    )  # fmt: skip
    found = await sender.apply(
        Increment(SHOP, "brief", 1, ttl_ms=60_000), Increment(SHOP, "ever", 1, ttl_ms=100), Swap(SHOP, "to-ever", b"1", b"2"),
    )  # fmt: skip
    assert found == [Counted(2), Counted(4), Swapped()]
    names = ["brief", "ever", "long", "new", "short", "to-ever"]
    assert (await away.keys(SHOP, None, 10)).keys == names
    await away_wait(0.9)
    assert await away.get_many(SHOP, names) == [None, b"4", b"2", None, None, b"2"]
    page = await away.keys(SHOP, None, 2)
    assert page.keys == ["ever", "long"]
    assert page.cursor == "long"
    assert (await away.keys(SHOP, page.cursor, 2)).keys == ["to-ever"]
    assert await sender.apply(Increment(SHOP, "brief", 3), Swap(SHOP, "short", b"1", b"x"), Swap(SHOP, "new", None, b"y")) == [
        Counted(3), Conflict(None), Swapped(),
    ]  # fmt: skip
    assert await away.get_many(SHOP, ["brief", "short", "new"]) == [b"3", None, b"y"]


async def test_keys_are_paged_in_byte_order(away: ForeignStore) -> None:
    names = ["", "b", "a", "é", "z", "🔑", "Z", "aa", "￿", "a\0", "-", "_", "a.b", "*", ">", "x" * 1000]
    await Sender(away).apply(*(Put(SHOP, name, b"") for name in names))
    found: list[str] = []
    cursor = None
    while True:
        page = await away.keys(SHOP, cursor, 3)
        found += page.keys
        cursor = page.cursor
        if cursor is None:
            break
    assert found == sorted(names, key=str.encode)
    assert await away.count(SHOP) == len(names)


@pytest.mark.parametrize("name", ODD)
async def test_any_name_is_safe(away: ForeignStore, name: str) -> None:
    mine, shared = BucketAddress(Scope.INSTANCE, name, f"i{name}"), BucketAddress(Scope.NAMESPACE, name)
    worker = BucketAddress(Scope.WORKER, name)
    buckets = [
        mine,
        shared,
        worker,
        BucketAddress(Scope.INSTANCE, name, f"i{name}/"),
        BucketAddress(Scope.WORKER, name + "/"),
    ]
    effects = [Put(bucket, name, b"\0\r\n\xff%d" % number) for number, bucket in enumerate(buckets)]
    # A Redis Cluster has Namespace buckets elsewhere: they are not changed together with others.
    await Sender(away, name).apply(effects[0], *effects[2:])
    await Sender(away, name + "/").apply(effects[1])
    for number, bucket in enumerate(buckets):
        assert await away.get_many(bucket, [name, name + "x"]) == [b"\0\r\n\xff%d" % number, None]
        assert (await away.keys(bucket, None, 10)).keys == [name]


async def test_scopes_do_not_meet_and_a_purge_takes_the_workers_alone(
    foreign_world: ForeignWorld[ForeignStore], worker: WorkerId
) -> None:
    mine = await foreign_world.open(worker)
    other = await foreign_world.open(WorkerId(worker.namespace, "other"))
    stranger = await foreign_world.open(WorkerId(worker.namespace + "x", worker.name))
    shared = BucketAddress(Scope.NAMESPACE, "b")
    addresses = [BucketAddress(Scope.WORKER, "b"), BucketAddress(Scope.INSTANCE, "b", "i")]
    for store in (mine, other, stranger):
        await Sender(store).apply(*(Put(address, "k", b"%d" % number) for number, address in enumerate(addresses)))
    await Sender(mine, "shared").apply(Put(shared, "k", b"2"))
    assert [(await mine.get_many(address, ["k"]))[0] for address in (*addresses, shared)] == [b"0", b"1", b"2"]
    assert [(await store.get_many(shared, ["k"]))[0] for store in (other, stranger)] == [b"2", None]
    seen: list[int] = []
    assert await mine.purge(seen.append) > 0
    assert seen
    assert [(await mine.get_many(address, ["k"]))[0] for address in (*addresses, shared)] == [None, None, b"2"]
    for store in (other, stranger):
        assert [(await store.get_many(address, ["k"]))[0] for address in addresses] == [b"0", b"1"]


async def test_many_keys(away: ForeignStore) -> None:
    names = [f"k{number:04}" for number in range(350)]
    sender = Sender(away)
    for start in range(0, len(names), 50):
        await sender.apply(*(Put(SHOP, name, name.encode()) for name in names[start : start + 50]))
    assert await away.get_many(SHOP, [*names, "none"]) == [*(name.encode() for name in names), None]
    page = await away.keys(SHOP, "k0009", 100)
    assert page.keys == names[10:110]
    assert page.cursor == names[109]
    assert await away.get_many(SHOP, []) == []


async def test_what_the_limits_allow_is_taken(away: ForeignStore) -> None:
    """The bounds that a guest is held to are bounds that the server can keep, at their worst."""
    limits = away.limits
    if not limits.together:
        pytest.skip("no bounds of its own")
    assert limits.effects is not None and limits.value_bytes is not None
    key = "k" * (limits.key_bytes or 1)
    long = BucketAddress(Scope.INSTANCE, "ü" * 500, "ü" * 250)
    sender = Sender(away, "ü" * 900)
    value = bytes(limits.value_bytes)
    await sender.apply(Put(long, key, value))
    assert await sender.apply(Swap(long, key, None, b"")) == [Conflict(value)]
    assert await sender.again(Swap(long, key, None, b"")) == [Conflict(value)]
    assert await sender.apply(Swap(long, key, value, value[:-1] + b"x")) == [Swapped()]
    assert (await away.get_many(long, [key]))[0] == value[:-1] + b"x"
    each = 1000 if limits.bytes is None else limits.bytes // limits.effects - limits.overhead - 8
    effects = [Put(long, f"{number:08}", bytes(max(each, 0))) for number in range(limits.effects)]
    assert not limits.exceeded(len(effects), sum(len(e.key) + len(e.value) for e in effects))
    await sender.apply(*effects)
    assert await away.count(long) == limits.effects + 1


async def test_sequence_0_is_applied_whenever_it_comes(away: ForeignStore, away_too: ForeignStore) -> None:
    async def write(store: ForeignStore, *effects: Effect) -> list[Outcome]:
        done = await store.apply_foreign(ForeignApply("", 0, effects))
        assert done.status is CommitStatus.APPLIED
        return done.outcomes

    for store in (away, away_too, away):
        await write(store, Put(SHOP, "k", b"1"), Increment(SHOP, "n", 1))
    assert await away.get_many(SHOP, ["k", "n"]) == [b"1", b"3"]
    assert await write(away, Swap(SHOP, "k", None, b"2")) == [Conflict(b"1")]
    assert await write(away, Swap(SHOP, "k", b"1", b"2")) == [Swapped()]
    assert await write(away_too, Remove(SHOP, "k"), Remove(SHOP, "n"), Remove(SHOP, "never")) == []
    assert await away.count(SHOP) == 0
    found = await asyncio.gather(*(write((away, away_too)[n % 2], Increment(SHOP, "n", 1)) for n in range(12)))
    assert sorted(one.value for (one,) in found if isinstance(one, Counted)) == list(range(1, 13))
    assert await Sender(away).apply(Increment(SHOP, "n", 1)) == [Counted(13)]
