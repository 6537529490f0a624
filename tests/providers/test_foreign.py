"""Effects of another store's instance: applied exactly once. And the home's side: what is not confirmed yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from perdure.durable.departing import FENCED_AT, SEALED_AT
from perdure.durable.effects import Conflict, Counted, Increment, Put, Refused, Swap, Swapped
from perdure.durable.records import CommitStatus, ForeignApply
from perdure.durable.store import ForeignStore, Store
from providers.owners import ODD, SHOP, look, own

Wait = Callable[[float], Awaitable[None]]
ORIGIN = "home/alice/life-1"


async def test_effects_apply_once(away: ForeignStore, away_too: ForeignStore) -> None:
    apply = ForeignApply(ORIGIN, 1, [Put(SHOP, "a", b"1"), Increment(SHOP, "n", 5), Swap(SHOP, "s", b"x", b"y")])
    first = await away.apply_foreign(apply)
    assert (first.status, first.outcomes) == (CommitStatus.APPLIED, [Counted(5), Conflict(None)])
    for client in (away, away_too):
        again = await client.apply_foreign(apply)
        assert (again.status, again.outcomes) == (CommitStatus.DUPLICATE, first.outcomes)
    assert await away.get_many(SHOP, ["a", "n", "s"]) == [b"1", b"5", None]


async def test_a_sequence_below_the_highest_changes_nothing_and_has_no_outcomes(away: ForeignStore) -> None:
    low = ForeignApply(ORIGIN, 3, [Increment(SHOP, "n", 1)])
    high = ForeignApply(ORIGIN, 7, [Increment(SHOP, "n", 10), Swap(SHOP, "n", b"11", b"12")])
    await away.apply_foreign(low)
    assert (await away.apply_foreign(high)).outcomes == [Counted(11), Swapped()]
    for sequence in (1, 3, 5):
        again = await away.apply_foreign(ForeignApply(ORIGIN, sequence, low.effects))
        assert (again.status, again.outcomes) == (CommitStatus.DUPLICATE, [])
    assert (await away.apply_foreign(high)).outcomes == [Counted(11), Swapped()]
    assert await away.get_many(SHOP, ["n"]) == [b"12"]


async def test_sequences_need_not_follow_each_other(away: ForeignStore) -> None:
    for sequence in (5, 6, 100):
        done = await away.apply_foreign(ForeignApply(ORIGIN, sequence, [Increment(SHOP, "n", 1)]))
        assert done.status is CommitStatus.APPLIED
    assert await away.get_many(SHOP, ["n"]) == [b"3"]


async def test_origins_are_told_apart(away: ForeignStore) -> None:
    for origin in (ORIGIN, ORIGIN + "0", "home/alice/life-2", *ODD):
        done = await away.apply_foreign(ForeignApply(origin, 1, [Increment(SHOP, "n", 1)]))
        assert done.status is CommitStatus.APPLIED
        again = await away.apply_foreign(ForeignApply(origin, 1, [Increment(SHOP, "n", 1)]))
        assert (again.status, again.outcomes) == (CommitStatus.DUPLICATE, done.outcomes)
    assert await away.get_many(SHOP, ["n"]) == [b"%d" % (3 + len(ODD))]


async def test_an_apply_of_nothing_is_remembered(away: ForeignStore) -> None:
    assert (await away.apply_foreign(ForeignApply(ORIGIN, 2, []))).status is CommitStatus.APPLIED
    assert (await away.apply_foreign(ForeignApply(ORIGIN, 2, []))).status is CommitStatus.DUPLICATE


async def test_a_life_that_has_ended_is_cleared_under_the_highest_sequences(away: ForeignStore) -> None:
    applied = [FENCED_AT, FENCED_AT + 1, SEALED_AT - 1, SEALED_AT]
    for at, sequence in enumerate(applied):
        done = await away.apply_foreign(ForeignApply(ORIGIN, sequence, [Increment(SHOP, "n", 1)]))
        assert (done.status, done.outcomes) == (CommitStatus.APPLIED, [Counted(at + 1)])
    for sequence in (1, 1000, *applied):
        done = await away.apply_foreign(ForeignApply(ORIGIN, sequence, [Increment(SHOP, "n", 1)]))
        assert done.status is CommitStatus.DUPLICATE


async def test_sequence_0_is_applied_each_time_and_leaves_no_record(store: Store, other: Store) -> None:
    apply = ForeignApply("", 0, [Increment(SHOP, "n", 5), Swap(SHOP, "s", None, b"first")])
    first = await store.apply_foreign(apply)
    assert (first.status, first.outcomes) == (CommitStatus.APPLIED, [Counted(5), Swapped()])
    second = await other.apply_foreign(apply)
    assert (second.status, second.outcomes) == (CommitStatus.APPLIED, [Counted(10), Conflict(b"first")])
    # Nothing that could be taken for an instance's record: its first sequence is applied.
    own_first = await store.apply_foreign(ForeignApply("", 1, [Increment(SHOP, "n", 1)]))
    assert (own_first.status, own_first.outcomes) == (CommitStatus.APPLIED, [Counted(11)])


async def test_refused_effects_are_outcomes_here_too(away: ForeignStore) -> None:
    apply = ForeignApply(ORIGIN, 1, [Put(SHOP, "t", b"text"), Increment(SHOP, "t", 1), Put(SHOP, "u", b"1")])
    for status in (CommitStatus.APPLIED, CommitStatus.DUPLICATE):
        done = await away.apply_foreign(apply)
        assert (done.status, done.outcomes) == (status, [Refused("not-a-counter")])
    assert await away.get_many(SHOP, ["t", "u"]) == [b"text", b"1"]


async def test_the_dedup_record_outlives_the_values(away: ForeignStore, away_wait: Wait) -> None:
    apply = ForeignApply(ORIGIN, 1, [Put(SHOP, "a", b"1", ttl_ms=50), Increment(SHOP, "n", 1, ttl_ms=50)])
    await away.apply_foreign(apply)
    await away_wait(0.3)
    assert (await away.apply_foreign(apply)).status is CommitStatus.DUPLICATE
    assert await away.get_many(SHOP, ["a", "n"]) == [None, None]


async def test_the_dedup_record_outlives_an_instance_of_the_same_name(store: Store) -> None:
    apply = ForeignApply("alice", 1, [Increment(SHOP, "n", 1)])
    await store.apply_foreign(apply)
    await (await own(store)).commit()
    await store.delete_instance("alice")
    assert (await store.apply_foreign(apply)).status is CommitStatus.DUPLICATE


async def test_unapplied_sequences_are_kept_until_confirmed(store: Store) -> None:
    owner = await own(store)
    for foreign in (True, False, True, True):
        await owner.commit(foreign=foreign)
    assert (await look(store)).unapplied == [1, 3, 4]
    await store.applied("alice", owner.token, 3)
    await store.applied("alice", owner.token, 99)
    assert (await store.claim("alice", "next", "h")).data.unapplied == [1, 4]


async def test_unapplied_sequences_are_sorted_as_numbers(store: Store) -> None:
    owner = await own(store)
    for _ in range(12):
        await owner.commit(foreign=True)
    assert (await look(store)).unapplied == list(range(1, 13))


@pytest.mark.parametrize("sequence", [2**31, 2**53 - 1])
async def test_large_sequences(away: ForeignStore, sequence: int) -> None:
    assert (await away.apply_foreign(ForeignApply(ORIGIN, sequence - 1, []))).status is CommitStatus.APPLIED
    assert (await away.apply_foreign(ForeignApply(ORIGIN, sequence, []))).status is CommitStatus.APPLIED
    assert (await away.apply_foreign(ForeignApply(ORIGIN, sequence, []))).status is CommitStatus.DUPLICATE
