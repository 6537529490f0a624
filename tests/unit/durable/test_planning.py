"""What effects come to when the provider computes it itself: the same as the memory store says."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from perdure.durable.effects import BucketAddress, Effect, Increment, Put, Remove, Scope, Swap
from perdure.durable.planning import Held, looked_at, plan
from perdure.durable.records import ForeignApply, WorkerId
from perdure.providers.memory import MemoryStore, MemoryWorld

BUCKETS = [BucketAddress(Scope.WORKER, "b"), BucketAddress(Scope.NAMESPACE, "b")]
KEYS = ["a", "b"]
places = st.tuples(st.sampled_from(BUCKETS), st.sampled_from(KEYS))
values = st.sampled_from([b"", b"1", b"9223372036854775807", b"x"])
ttls = st.sampled_from([None, 1, 5000])
effects = st.one_of(
    st.builds(lambda place, value, ttl: Put(*place, value, ttl), places, values, ttls),
    st.builds(lambda place: Remove(*place), places),
    st.builds(lambda place, delta, ttl: Increment(*place, delta, ttl), places, st.sampled_from([1, -1, 2**63]), ttls),
    st.builds(lambda place, old, value, ttl: Swap(*place, old, value, ttl), places, st.none() | values, values, ttls),
)


@given(st.lists(st.tuples(st.lists(effects, max_size=6), st.sampled_from([0, 2, 6000])), max_size=4))
def test_it_does_what_the_memory_store_does(rounds: list[tuple[list[Effect], int]]) -> None:
    now = 1_000_000
    world = MemoryWorld(now=lambda: now / 1000)
    store = MemoryStore(world, WorkerId("ns", "w"))
    held: dict[tuple[BucketAddress, str], Held | None] = {}

    async def play() -> None:
        nonlocal now
        for sequence, (some, passed) in enumerate(rounds, start=1):
            seen = {spot: held.get(spot) for spot in looked_at(some)}
            planned = plan(some, seen, now)
            done = await store.apply_foreign(ForeignApply("o", sequence, some))
            assert planned.outcomes == done.outcomes
            held.update(planned.writes)
            now += passed
            for bucket in BUCKETS:
                live = [held.get((bucket, key)) for key in KEYS]
                expected = [one.data if one is not None and one.live(now) else None for one in live]
                assert await store.get_many(bucket, KEYS) == expected

    asyncio.run(play())


def test_what_need_not_be_read() -> None:
    far, near = BUCKETS
    some: list[Effect] = [
        Put(far, "a", b""), Increment(far, "a", 1), Increment(far, "b", 1), Increment(far, "b", 1), Swap(near, "a", None, b""),
        Remove(near, "b"),
    ]  # fmt: skip
    assert looked_at(some) == [(far, "b"), (near, "a")]
