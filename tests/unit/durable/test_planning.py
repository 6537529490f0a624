"""What effects come to when the provider computes it itself: the same as the memory store says."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from perdure.durable.effects import BucketAddress, Effect, Fill, Increment, Put, Remove, Scope, Swap, bounded
from perdure.durable.planning import Held, Room, looked_at, plan, touched
from perdure.durable.records import ForeignApply, WorkerId
from perdure.providers.memory import MemoryStore, MemoryWorld

BUCKETS = [BucketAddress(Scope.WORKER, "b"), BucketAddress(Scope.NAMESPACE, "b")]
KEYS = ["a", "b", "c"]
buckets, keys = st.sampled_from(BUCKETS), st.sampled_from(KEYS)
values = st.sampled_from([b"", b"1", b"9223372036854775807", b"x"])
ttls = st.sampled_from([None, 1, 5000])
effects = st.one_of(
    st.builds(Put, buckets, keys, values, ttls),
    st.builds(Remove, buckets, keys),
    st.builds(Increment, buckets, keys, st.sampled_from([1, -1, 2**63]), ttls),
    st.builds(Swap, buckets, keys, st.none() | values, values, ttls),
)


bounds = st.integers(1, 3)
last = st.none() | st.one_of(
    st.builds(
        lambda bucket, keys, value, most, ttl: Fill(bucket, tuple((key, value) for key in sorted(keys)), most, ttl),
        buckets, st.sets(keys, min_size=1), values, bounds, ttls,
    ),
    st.builds(Increment, buckets, keys, st.just(1), ttls, bounds),
    st.builds(Swap, buckets, keys, st.none() | values, st.just(b"s"), ttls, bounds),
)  # fmt: skip
batches = st.builds(lambda some, one: [*some, one] if one is not None else some, st.lists(effects, max_size=6), last)


@given(st.lists(st.tuples(batches, st.sampled_from([0, 2, 6000])), max_size=4))
def test_it_does_what_the_memory_store_does(rounds: list[tuple[list[Effect], int]]) -> None:
    now = 1_000_000
    world = MemoryWorld(now=lambda: now / 1000)
    store = MemoryStore(world, WorkerId("ns", "w"))
    held: dict[tuple[BucketAddress, str], Held | None] = {}

    async def play() -> None:
        nonlocal now
        for sequence, (some, passed) in enumerate(rounds, start=1):
            seen = {spot: held.get(spot) for spot in looked_at(some)}
            room = None
            if (bound := bounded(some)) is not None:
                place = bound.bucket
                live = {key for key in KEYS if (one := held.get((place, key))) is not None and one.live(now)}
                room = Room(len(live), live.intersection(touched(some, place)))
            planned = plan(some, seen, now, room)
            done = await store.apply_foreign(ForeignApply("o", sequence, some))
            assert planned.outcomes == done.outcomes
            held.update(planned.writes)
            now += passed
            for bucket in BUCKETS:
                found = [held.get((bucket, key)) for key in KEYS]
                expected = [one.data if one is not None and one.live(now) else None for one in found]
                assert await store.get_many(bucket, KEYS) == expected

    asyncio.run(play())


def test_what_need_not_be_read() -> None:
    far, near = BUCKETS
    some: list[Effect] = [
        Put(far, "a", b""), Increment(far, "a", 1), Increment(far, "b", 1), Increment(far, "b", 1), Swap(near, "a", None, b""),
        Remove(near, "b"),
    ]  # fmt: skip
    assert looked_at(some) == [(far, "b"), (near, "a")]
