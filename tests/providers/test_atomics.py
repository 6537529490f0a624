"""Effects of a commit: all or nothing, in their order, and the atomic ones with their outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure.durable.effects import (
    COUNTER_MAX,
    COUNTER_MIN,
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
    decode_outcomes,
    encode_outcomes,
)
from perdure.durable.records import CommitStatus, ForeignApply
from perdure.durable.store import Store
from providers.owners import ODD, SHOP, look, own

Wait = Callable[[float], Awaitable[None]]
NOT_COUNTERS = [b"", b"x", b"1.0", b" 1", b"1 ", b"+1", b"01", b"-0", b"00", b"1e3", b"0x1", b"1\n", b"\0", b"-", b"--1",
                b"9223372036854775808", b"-9223372036854775809", b"12345678901234567890", "١".encode(), b"\xff"]  # fmt: skip
COUNTERS = [b"0", b"1", b"-1", b"10", b"9007199254740993", b"-9007199254740993", b"9223372036854775806",
            b"9223372036854775807", b"-9223372036854775808", b"-9223372036854775807", b"1000000000000000000"]  # fmt: skip
DELTAS = [0, 1, -1, 2**53 + 1, -(2**53) - 1, COUNTER_MAX, COUNTER_MIN, COUNTER_MAX - 1, 2**63, 2**64 - 1, 2**64, 2**80,
          -(2**64) + 1, -(2**64)]  # fmt: skip


async def _outcomes(store: Store, *effects: Effect) -> list[Outcome]:
    owner = await own(store, nonce="of these effects")
    done = await owner.commit(*effects)
    assert done.status is CommitStatus.APPLIED
    return done.outcomes


async def test_a_missing_counter_is_zero(store: Store) -> None:
    assert await _outcomes(store, Increment(SHOP, "n", 5)) == [Counted(5)]
    assert await store.get_many(SHOP, ["n"]) == [b"5"]
    assert (await store.keys(SHOP, None, 10)).keys == ["n"]
    assert await _outcomes(store, Increment(SHOP, "n", -7)) == [Counted(-2)]
    assert await store.get_many(SHOP, ["n"]) == [b"-2"]


async def test_an_increment_by_nothing_makes_a_counter(store: Store) -> None:
    assert await _outcomes(store, Increment(SHOP, "n", 0)) == [Counted(0)]
    assert await store.get_many(SHOP, ["n"]) == [b"0"]


@pytest.mark.parametrize("value", NOT_COUNTERS)
async def test_what_is_not_a_counter(store: Store, value: bytes) -> None:
    found = await _outcomes(store, Put(SHOP, "n", value), Increment(SHOP, "n", 1), Put(SHOP, "after", b"1"))
    assert found == [Refused("not-a-counter")]
    assert await store.get_many(SHOP, ["n", "after"]) == [value, b"1"]


@pytest.mark.parametrize("value", [*COUNTERS, None])
async def test_counters_are_exact_over_64_bits(store: Store, value: bytes | None) -> None:
    """As `counted` defines it, at the ends of the range and with deltas beyond them."""
    for number, delta in enumerate(DELTAS):
        key = f"n{number}"
        before = [] if value is None else [Put(SHOP, key, value)]
        expected = counted(value, delta)
        assert await _outcomes(store, *before, Increment(SHOP, key, delta)) == [expected], delta
        kept = b"%d" % expected.value if isinstance(expected, Counted) else value
        assert await store.get_many(SHOP, [key]) == [kept]
        assert (await store.keys(SHOP, None, 100)).keys.count(key) == (kept is not None)


async def test_an_overflow_changes_nothing_and_the_other_effects_are_applied(store: Store) -> None:
    top = b"%d" % COUNTER_MAX
    effects: list[Effect] = [
        Put(SHOP, "n", top),
        Increment(SHOP, "n", 1),
        Increment(SHOP, "n", -1),
        Put(SHOP, "b", b"1"),
    ]
    assert await _outcomes(store, *effects) == [Refused("overflow"), Counted(COUNTER_MAX - 1)]
    assert await store.get_many(SHOP, ["n", "b"]) == [b"%d" % (COUNTER_MAX - 1), b"1"]


async def test_a_counter_keeps_its_time_to_live(store: Store, wait: Wait) -> None:
    await _outcomes(store, Put(SHOP, "brief", b"1", ttl_ms=300), Put(SHOP, "ever", b"1"))
    await _outcomes(store, Increment(SHOP, "brief", 1, ttl_ms=60_000), Increment(SHOP, "ever", 1, ttl_ms=300))
    await wait(0.5)
    assert await store.get_many(SHOP, ["brief", "ever"]) == [None, b"2"]


async def test_a_new_counter_gets_a_time_to_live(store: Store, wait: Wait) -> None:
    await _outcomes(store, Increment(SHOP, "n", 1, ttl_ms=300))
    assert await _outcomes(store, Increment(SHOP, "n", 1)) == [Counted(2)]
    await wait(0.5)
    assert await store.get_many(SHOP, ["n"]) == [None]
    assert await _outcomes(store, Increment(SHOP, "n", 1)) == [Counted(1)]
    await wait(0.5)
    assert await store.get_many(SHOP, ["n"]) == [b"1"]


async def test_an_expired_value_that_is_no_counter_is_missing(store: Store, wait: Wait) -> None:
    await _outcomes(store, Put(SHOP, "n", b"text", ttl_ms=100), Put(SHOP, "s", b"text", ttl_ms=100))
    await wait(0.3)
    assert await _outcomes(store, Increment(SHOP, "n", 3), Swap(SHOP, "s", b"text", b"x")) == [
        Counted(3),
        Conflict(None),
    ]
    assert await store.get_many(SHOP, ["n", "s"]) == [b"3", None]


async def test_swaps(store: Store) -> None:
    assert await _outcomes(store, Swap(SHOP, "a", None, b"1")) == [Swapped()]
    assert await _outcomes(store, Swap(SHOP, "a", None, b"2")) == [Conflict(b"1")]
    assert await _outcomes(store, Swap(SHOP, "a", b"0", b"2")) == [Conflict(b"1")]
    assert await _outcomes(store, Swap(SHOP, "a", b"1", b"2")) == [Swapped()]
    assert await _outcomes(store, Swap(SHOP, "b", b"1", b"2")) == [Conflict(None)]
    assert await store.get_many(SHOP, ["a", "b"]) == [b"2", None]
    assert (await store.keys(SHOP, None, 10)).keys == ["a"]


async def test_an_empty_value_is_not_a_missing_one(store: Store) -> None:
    assert await _outcomes(store, Swap(SHOP, "a", b"", b"1")) == [Conflict(None)]
    assert await _outcomes(store, Swap(SHOP, "a", None, b"")) == [Swapped()]
    assert await _outcomes(store, Swap(SHOP, "a", None, b"1")) == [Conflict(b"")]
    assert await _outcomes(store, Swap(SHOP, "a", b"", b"\0")) == [Swapped()]
    assert await store.get_many(SHOP, ["a"]) == [b"\0"]


async def test_a_swap_sets_the_time_to_live(store: Store, wait: Wait) -> None:
    await _outcomes(store, Put(SHOP, "to-brief", b"1"), Put(SHOP, "to-ever", b"1", ttl_ms=300))
    await _outcomes(store, Swap(SHOP, "to-brief", b"1", b"2", ttl_ms=300), Swap(SHOP, "to-ever", b"1", b"2"))
    await wait(0.5)
    assert await store.get_many(SHOP, ["to-brief", "to-ever"]) == [None, b"2"]


async def test_effects_are_applied_in_their_order(store: Store) -> None:
    effects: list[Effect] = [
        Put(SHOP, "a", b"1"), Increment(SHOP, "a", 1), Swap(SHOP, "a", b"2", b"9"), Increment(SHOP, "a", 1),
        Remove(SHOP, "a"), Increment(SHOP, "a", 4), Put(SHOP, "b", b"1"), Put(SHOP, "b", b"2"), Remove(SHOP, "b"),
        Put(SHOP, "c", b"1"), Swap(SHOP, "b", None, b"3"),
    ]  # fmt: skip
    assert await _outcomes(store, *effects) == [Counted(2), Swapped(), Counted(10), Counted(4), Swapped()]
    assert await store.get_many(SHOP, ["a", "b", "c"]) == [b"4", b"3", b"1"]
    assert (await store.keys(SHOP, None, 10)).keys == ["a", "b", "c"]
    assert await store.count(SHOP) == 3


async def test_a_put_without_a_time_to_live_takes_an_old_one_away(store: Store, wait: Wait) -> None:
    await _outcomes(store, Put(SHOP, "a", b"1", ttl_ms=200), Put(SHOP, "a", b"2"))
    await _outcomes(store, Put(SHOP, "b", b"1", ttl_ms=200))
    await _outcomes(store, Put(SHOP, "b", b"2"))
    await _outcomes(store, Put(SHOP, "c", b"1", ttl_ms=200), Remove(SHOP, "c"), Put(SHOP, "c", b"2"))
    await wait(0.4)
    await _outcomes(store, Put(SHOP, "d", b"1"))
    assert await store.get_many(SHOP, ["a", "b", "c", "d"]) == [b"2", b"2", b"2", b"1"]
    assert (await store.keys(SHOP, None, 10)).keys == ["a", "b", "c", "d"]


async def test_the_outcomes_are_kept_with_the_record(store: Store) -> None:
    effects: list[Effect] = [
        Increment(SHOP, "n", 2), Swap(SHOP, "n", b"x", b"y"), Swap(SHOP, "new", None, b"1"),
        Swap(SHOP, "none", b"x", b"y"), Put(SHOP, "t", b"text"), Increment(SHOP, "t", 1),
    ]  # fmt: skip
    outcomes = await _outcomes(store, *effects)
    assert outcomes == [Counted(2), Conflict(b"2"), Swapped(), Conflict(None), Refused("not-a-counter")]
    record = (await look(store)).journal[-1]
    assert (record.entry, decode_outcomes(record.outcomes)) == (b"e1", outcomes)
    assert record.outcomes == encode_outcomes(outcomes)
    page = await store.journal("alice", 0, 10)
    assert page is not None and page.records == [record]


@pytest.mark.parametrize("entry", [b"", b"PR", b"PR\0\0\0\0x", b"PJ", b"PJ\1", b"\0", b"\xff" * 3])
async def test_entries_are_opaque(store: Store, entry: bytes) -> None:
    owner = await own(store)
    await owner.commit(entry=entry)
    await owner.commit(Increment(SHOP, "n", 1), entry=entry)
    plain, counting = (await look(store)).journal
    assert (plain.entry, plain.outcomes, counting.entry) == (entry, b"", entry)
    assert decode_outcomes(counting.outcomes) == [Counted(1)]


async def test_outcomes_of_a_commit_of_many_effects(store: Store) -> None:
    effects: list[Effect] = []
    for number in range(1500):
        effects += [Put(SHOP, f"p{number}", b"v"), Increment(SHOP, f"n{number % 7}", 1)]
    outcomes = await _outcomes(store, *effects, *[Put(SHOP, f"q{number}", b"w") for number in range(3000)])
    assert len(outcomes) == 1500
    assert outcomes[-1] == Counted(len(range(1499 % 7, 1500, 7)))
    assert await store.count(SHOP) == 1500 + 7 + 3000


async def test_increments_of_many_instances_are_not_lost(store: Store, other: Store) -> None:
    async def run(where: Store, name: str) -> None:
        owner = await own(where, name)
        for _ in range(10):
            await owner.commit(Increment(SHOP, "shared", 1))

    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(run((store, other)[number % 2], f"i{number}"))
    assert await store.get_many(SHOP, ["shared"]) == [b"100"]


async def test_of_two_swaps_from_the_same_value_one_wins(store: Store, other: Store) -> None:
    owners = [await own(store, "a"), await own(other, "b")]
    done = await asyncio.gather(*[owner.commit(Swap(SHOP, "lock", None, owner.instance.encode())) for owner in owners])
    kinds = sorted(type(one.outcomes[0]).__name__ for one in done)
    assert kinds == ["Conflict", "Swapped"]


@pytest.mark.parametrize("name", ODD)
async def test_atomics_under_any_name(store: Store, name: str) -> None:
    for bucket in (
        BucketAddress(Scope.INSTANCE, name or "empty", f"i{name}"),
        BucketAddress(Scope.NAMESPACE, "b" + name),
    ):
        effects: list[Effect] = [Increment(bucket, name, 1), Swap(bucket, name, b"1", b"2")]
        done = await store.apply_foreign(ForeignApply(f"origin{name}{bucket.scope}", 1, effects))
        assert done.outcomes == [Counted(1), Swapped()]
        assert await store.get_many(bucket, [name]) == [b"2"]
