"""Effects with `max_keys`, on every provider: exact whoever else writes, whole or not at all, and exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.durable.effects import (
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
    Scope,
    Swap,
    Swapped,
)
from perdure.durable.feeds import FeedBounds
from perdure.durable.records import CommitStatus, ForeignApply, WorkerId
from perdure.durable.store import ForeignStore, Store
from perdure.providers.memory import MemoryStore
from providers.owners import ODD, SHOP, own
from providers.test_foreign_buckets import Sender
from providers.worlds import ForeignWorld, Memory, Setting

Wait = Callable[[float], Awaitable[None]]
FULL = Refused("full")


def fill(*keys: str, most: int, bucket: BucketAddress = SHOP, value: bytes = b"v", ttl_ms: int | None = None) -> Fill:
    return Fill(bucket, tuple((key, value) for key in keys), most, ttl_ms)


async def names(store: ForeignStore, bucket: BucketAddress = SHOP) -> list[str]:
    found = (await store.keys(bucket, None, 1000)).keys
    assert await store.count(bucket) == len(found)
    return found


async def test_keys_up_to_the_bound(away: ForeignStore) -> None:
    sender = Sender(away)
    steps: list[tuple[list[Effect], Outcome, list[str]]] = [
        ([fill("a", "b", most=3)], Swapped(), ["a", "b"]),
        ([fill("c", "d", most=3)], FULL, ["a", "b"]),
        ([fill("b", "c", most=3)], Swapped(), ["a", "b", "c"]),
        ([fill("a", "b", "c", most=3, value=b"new")], Swapped(), ["a", "b", "c"]),
        ([fill("d", most=3)], FULL, ["a", "b", "c"]),
        # What came with it is applied, and counts.
        ([Put(SHOP, "e", b""), fill("d", most=4)], FULL, ["a", "b", "c", "e"]),
        ([Remove(SHOP, "e"), Remove(SHOP, "a"), fill("d", most=3)], Swapped(), ["b", "c", "d"]),
        ([Remove(SHOP, "never"), fill("e", most=3)], FULL, ["b", "c", "d"]),
        # A bucket with more than it may have takes what is there already.
        ([fill("b", "c", most=1, value=b"x")], Swapped(), ["b", "c", "d"]),
        ([Remove(SHOP, "b"), fill("b", most=1)], FULL, ["c", "d"]),
    ]
    for effects, outcome, expected in steps:
        assert await sender.apply(*effects) == [outcome], effects
        assert await sender.again(*effects) == [outcome]
        assert await names(away) == expected, effects
    assert await away.get_many(SHOP, ["c", "d"]) == [b"x", b"v"]


async def test_counters_and_swaps_are_keys_too(away: ForeignStore) -> None:
    sender = Sender(away)
    steps: list[tuple[Effect, Outcome]] = [
        (Increment(SHOP, "n", 1, None, 2), Counted(1)), (Swap(SHOP, "s", None, b"1", None, 2), Swapped()),
        (Increment(SHOP, "m", 1, None, 2), FULL), (Swap(SHOP, "t", None, b"1", None, 2), FULL),
        (Increment(SHOP, "n", 1, None, 2), Counted(2)), (Swap(SHOP, "s", b"1", b"2", None, 2), Swapped()),
        (Swap(SHOP, "s", None, b"3", None, 2), Conflict(b"2")), (Swap(SHOP, "t", b"1", b"2", None, 2), Conflict(None)),
        (Increment(SHOP, "s", 2**63, None, 2), Refused("overflow")), (Increment(SHOP, "m", 1, None, 3), Counted(1)),
    ]  # fmt: skip
    for effect, outcome in steps:
        assert await sender.apply(effect) == [outcome], effect
        assert await sender.again(effect) == [outcome]
    assert await names(away) == ["m", "n", "s"]


async def test_those_past_their_time_do_not_count(away: ForeignStore, away_wait: Wait) -> None:
    sender = Sender(away)
    await sender.apply(fill("a", "b", most=3, ttl_ms=700))
    await sender.apply(Put(SHOP, "c", b"", ttl_ms=60_000))
    assert await sender.apply(fill("d", most=3)) == [FULL]
    await away_wait(1.0)
    assert await away.count(SHOP) == 1
    assert await sender.apply(fill("d", "a", most=3)) == [Swapped()]
    assert await sender.apply(Increment(SHOP, "e", 1, None, 3)) == [FULL]
    assert await names(away) == ["a", "c", "d"]


@pytest.mark.parametrize("scope", list(Scope))
async def test_each_bucket_has_its_own_room(away: ForeignStore, scope: Scope) -> None:
    instance = "i" if scope is Scope.INSTANCE else None
    sender = Sender(away)
    for name in ODD:
        bucket = BucketAddress(scope, name or "empty", instance)
        assert await sender.apply(fill("a", bucket=bucket, most=1)) == [Swapped()]
        assert await sender.apply(fill(f"{name}b", bucket=bucket, most=1)) == [FULL]
        await sender.apply(Remove(bucket, "a"))


async def test_of_many_that_meet_as_many_get_in_as_there_is_room(
    foreign_world: ForeignWorld[ForeignStore], worker: WorkerId
) -> None:
    stores = [await foreign_world.open(worker) for _ in range(3)]
    # Some of the room is taken and given back meanwhile.
    shared = BucketAddress(Scope.NAMESPACE, "shared")

    async def run(number: int) -> list[Outcome]:
        sender = Sender(stores[number % 3], f"home/i{number}/life-1")
        found = []
        for step in range(3):
            keys = [f"{number}-{step}-{part}" for part in range(1 + number % 2)]
            found += await sender.apply(fill(*keys, bucket=shared, most=7))
        await sender.apply(Remove(shared, f"{number}-0-0"))
        return found

    outcomes = [outcome for found in await asyncio.gather(*(run(number) for number in range(8))) for outcome in found]
    assert set(map(str, outcomes)) == {str(Swapped()), str(FULL)}
    assert await stores[0].count(shared) <= 7
    await Sender(stores[1], "late").apply(*(Remove(shared, key) for key in await names(stores[0], shared)))
    assert await Sender(stores[2], "later").apply(fill(*"abcdefg", bucket=shared, most=7)) == [Swapped()]


async def test_never_more_than_the_bound_at_any_moment(
    foreign_world: ForeignWorld[ForeignStore], worker: WorkerId
) -> None:
    stores = [await foreign_world.open(worker) for _ in range(2)]

    async def run(number: int) -> Outcome:
        (outcome,) = await Sender(stores[number % 2], f"o{number}").apply(fill(f"k{number}", most=5))
        return outcome

    outcomes = await asyncio.gather(*map(run, range(16)))
    assert outcomes.count(Swapped()) == 5 == await stores[0].count(SHOP)


async def test_in_a_commit(store: Store, other: Store) -> None:
    owner, rival = await own(store), await own(other, "bob")
    done = await owner.commit(Put(SHOP, "a", b"1"), Remove(SHOP, "none"), fill("b", "c", most=3))
    assert (done.status, done.outcomes) == (CommitStatus.APPLIED, [Swapped()])
    done = await rival.commit(Put(SHOP, "a", b"2"), Increment(SHOP, "n", 1, None, 3))
    assert done.outcomes == [FULL]
    assert await store.get_many(SHOP, ["a", "n"]) == [b"2", None]
    many = [f"k{number:04}" for number in range(2500)]
    assert (await owner.commit(fill(*many, most=2502))).outcomes == [FULL]
    assert (await owner.commit(fill(*many, most=2503))).outcomes == [Swapped()]
    assert await store.count(SHOP) == 2503


async def test_what_is_filled_is_told_to_who_watches(store: Store) -> None:
    await store.watch(SHOP, "watcher", FeedBounds())
    owner = await own(store)
    await owner.commit(Put(SHOP, "z", b"1"), fill("a", "b", most=3))
    await owner.commit(fill("c", "d", most=3))
    await owner.commit(Increment(SHOP, "n", 1, None, 3))
    page = await store.changes(SHOP, 0, 10)
    assert page is not None
    assert [(one.key, one.value) for one in page.changes] == [("z", b"1"), ("a", b"v"), ("b", b"v")]


class CountsNothing(MemoryStore):
    def _full(self, effect: Any) -> bool:
        return False


class CountsWhatIsThere(MemoryStore):
    """New or not, each key needs room."""

    def _full(self, effect: Any) -> bool:
        return effect.max_keys is not None and len(self._live(effect.bucket)) >= effect.max_keys


class CountsTheDead(MemoryStore):
    def _full(self, effect: Any) -> bool:
        entries = self._entries(effect.bucket)
        keys = [key for key, _ in effect.items] if isinstance(effect, Fill) else [effect.key]
        new = sum(key not in entries for key in keys)
        return effect.max_keys is not None and new > 0 and len(entries) + new > effect.max_keys


class FillsInPart(MemoryStore):
    async def apply_foreign(self, apply: ForeignApply) -> Any:
        effects = [
            Fill(effect.bucket, effect.items[:1], effect.max_keys) if isinstance(effect, Fill) else effect
            for effect in apply.effects
        ]
        return await super().apply_foreign(ForeignApply(apply.origin, apply.sequence, effects))


@pytest.mark.parametrize(
    ("mutant", "test"),
    [
        (CountsNothing, test_keys_up_to_the_bound),
        (CountsNothing, test_counters_and_swaps_are_keys_too),
        (CountsWhatIsThere, test_keys_up_to_the_bound),
        (CountsTheDead, test_those_past_their_time_do_not_count),
        (FillsInPart, test_keys_up_to_the_bound),
    ],
)
async def test_a_wrong_store_is_found(mutant: type[MemoryStore], test: Any, tmp_path: Any) -> None:
    world = Memory(Setting(lambda name: pytest.fail(name), tmp_path), mutant)
    store = await world.open(WorkerId("ns", "w"))
    more = (world.wait,) if test is test_those_past_their_time_do_not_count else ()
    with pytest.raises(AssertionError):
        await test(store, *more)
