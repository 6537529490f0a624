"""Snapshots of real guests: a restored instance goes on as the first one does, bit for bit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from perdure.component.capi import RAW
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.snapshot import Snapshot
from perdure.component.snapshot.image import place
from perdure.component.snapshot.pages import PAGE, changed_pages, pagemap_is_right, written_pages
from perdure.errors import SnapshotError, SnapshotRefused
from support.state_guests import (
    CODEC,
    LANGUAGES,
    Guest,
    World,
    fingerprint,
    in_another_process,
    loaded,
    operations,
    outcome,
    state_guest,
)

pytestmark = pytest.mark.timeout(900)


async def chain_of(guest: Guest, world: World, chance: random.Random, rounds: int) -> tuple[Instance, list[bytes]]:
    """An instance after some calls, and the snapshots that lead to its state: a full one, then deltas, and now and
    then a merge of all so far."""
    instance = await guest.instance(world)
    chain: list[bytes] = []
    last: Snapshot | None = None
    for _ in range(rounds):
        if chance.random() < 0.2:
            last, chain = None, []
        await guest.perform(instance, operations(chance, chance.randrange(2, 12)))
        last = guest.snapshots.capture(instance, codec=CODEC, parent=last)
        chain.append(last.data)
        if chance.random() < 0.2:
            last = guest.snapshots.merge(chain)
            chain = [last.data]
    return instance, chain


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_restored_instance_goes_on_bit_for_bit_in_another_process(language: str, tmp_path: Path) -> None:
    component = state_guest(language)
    async with loaded(component) as guest:
        for seed in range(6 if language == "rust" else 2):
            chance = random.Random(seed)
            world = World()
            instance, chain = await chain_of(guest, world, chance, rounds=4)
            calls = operations(chance, 25)
            there = in_another_process(component, tmp_path, chain, world, calls)
            here = await outcome(guest, instance, calls)
            assert there == here, f"seed {seed}"


async def test_any_history_is_restored_and_goes_on_alike() -> None:
    async with loaded(state_guest("rust")) as guest:
        for seed in range(100, 130):
            chance = random.Random(seed)
            world = World()
            instance, chain = await chain_of(guest, world, chance, rounds=chance.randrange(1, 7))
            restored, _ = await guest.snapshots.restore(chain, World.load(world.save()), codec=CODEC)
            calls = operations(chance, 15)
            assert await outcome(guest, instance, calls) == await outcome(guest, restored, calls), f"seed {seed}"
            instance.close()
            restored.close()


async def test_one_byte_of_difference_is_noticed_by_what_these_tests_compare() -> None:
    async with loaded(state_guest("rust")) as guest:
        instance = await guest.instance()
        before = fingerprint(instance), guest.snapshots.capture(instance).checksum
        address, size = place(instance, guest.bound.component.layout.memories[0])
        RAW[address + size - 1] ^= 1
        assert fingerprint(instance) != before[0]
        assert guest.snapshots.capture(instance).checksum != before[1]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_capturing_changes_nothing_and_is_canonical(language: str) -> None:
    async with loaded(state_guest(language)) as guest:
        one, other = await guest.instance(), await guest.instance()
        calls = operations(random.Random(1), 20)
        await guest.perform(one, calls)
        await guest.perform(other, calls)
        before = fingerprint(one)
        first = guest.snapshots.capture(one, codec=CODEC)
        assert fingerprint(one) == before == fingerprint(other)
        assert guest.snapshots.capture(other, codec=CODEC).data == first.data
        assert guest.snapshots.capture(one, codec=CODEC, prefilter=False).data == first.data
        await guest.perform(other, [("count", [])])
        assert guest.snapshots.capture(other, codec=CODEC).data != first.data


async def test_a_delta_is_worth_a_full_snapshot_and_is_smaller() -> None:
    async with loaded(state_guest("rust")) as guest:
        instance = await guest.instance()
        await guest.perform(instance, operations(random.Random(2), 40))
        full = guest.snapshots.capture(instance, codec=CODEC)
        await guest.perform(instance, [("count", [])])
        delta = guest.snapshots.capture(instance, codec=CODEC, parent=full)
        again = guest.snapshots.capture(instance, codec=CODEC)
        assert len(delta.data) < len(full.data)
        assert guest.snapshots.read([full.data, delta.data]).state.globals == again.state.globals
        assert guest.snapshots.merge([full.data, delta.data]).data == again.data


async def test_handles_of_the_hosts_resources_are_opened_again() -> None:
    async with loaded(state_guest("rust")) as guest:
        world = World()
        instance = await guest.instance(world)
        await guest.perform(instance, [("hold", ["a"]), ("hold", ["b"]), ("write", [1, "xx"]), ("release", [])])
        await guest.perform(instance, [("hold", ["c"])])
        with pytest.raises(SnapshotRefused, match="perdure:state/host note") as refused:
            guest.snapshots.capture(instance)
        assert refused.value.reason == "host-resource"
        taken = guest.snapshots.capture(instance, codec=CODEC)
        elsewhere = World(notes={"c": 40})
        restored, _ = await guest.snapshots.restore([taken.data], elsewhere, codec=CODEC)
        assert await guest.perform(restored, [("write", [1, "12"]), ("hold", ["d"])]) == [42, 3]
        assert world.notes == {"b": 2}


async def test_handles_of_the_guests_own_resources_are_kept() -> None:
    async with loaded(state_guest("rust")) as guest:
        instance = await guest.instance()
        await guest.perform(instance, [("make", [number]) for number in (5, 7, 11)])
        await guest.perform(instance, [("take", [])])
        taken = guest.snapshots.capture(instance, codec=CODEC)
        restored, _ = await guest.snapshots.restore([taken.data], World(), codec=CODEC)
        assert fingerprint(restored) == fingerprint(instance)
        assert await guest.perform(restored, [("total", []), ("make", [1]), ("total", [])]) == [12, 3, 13]
        (cell,) = await guest.perform(restored, [("take", [])])
        add = next(func for func in guest.bound.component.exports if func.name == "[method]cell.add")
        assert await restored.call(add, [cell, 41]) == 42


async def test_memory_beyond_the_limit_is_refused_by_name() -> None:
    async with loaded(state_guest("rust")) as guest:
        instance = await guest.instance()
        await guest.perform(instance, [("grow", [3 << 20])])
        taken = guest.snapshots.capture(instance, codec=CODEC)
        with pytest.raises(SnapshotError) as refused:
            await guest.snapshots.restore([taken.data], World(), limits=InstanceLimits(memory=3 << 20))
        assert refused.value.reason == "limit"
        restored, _ = await guest.snapshots.restore([taken.data], World(), limits=InstanceLimits(memory=5 << 20))
        assert await guest.perform(restored, [("grow", [1])]) == [(3 << 20) + 1]


async def test_an_instance_in_a_call_or_after_a_trap_is_refused() -> None:
    async with loaded(state_guest("rust")) as guest:
        instance = await guest.instance()
        reasons = []

        class Nosy(World):
            def tick(self) -> int:
                with pytest.raises(SnapshotRefused) as refused:
                    guest.snapshots.capture(instance, codec=CODEC)
                reasons.append(refused.value.reason)
                return 1

        instance = await guest.instance(Nosy())
        await guest.perform(instance, [("stamp", [])])
        assert "call-in-progress" in reasons
        guest.snapshots.capture(instance, codec=CODEC)
        with pytest.raises(Exception, match="unreachable"):
            await guest.perform(instance, [("write", [9, "there is no such note"])])
        with pytest.raises(SnapshotRefused) as refused:
            guest.snapshots.capture(instance, codec=CODEC)
        assert refused.value.reason == "trapped"


async def test_pagemap_rules_pages_out_and_none_that_changed() -> None:
    if not pagemap_is_right():
        pytest.skip("this kernel has no /proc/self/pagemap that tells written pages")
    async with loaded(state_guest("python")) as guest:
        instance = await guest.instance()
        (memory,) = guest.bound.component.layout.memories
        address, size = place(instance, memory)
        blank, blank_size = guest.snapshots._initial.places[0]
        written = written_pages(address, size)
        changed = changed_pages(address, size, blank, blank_size, prefilter=False)
        assert written is not None and set(changed) <= set(written) and len(written) < size // PAGE // 2


async def test_results_are_those_of_the_interface() -> None:
    """The guests of all languages do the same."""
    calls: list[tuple[str, list[object]]] = [
        ("remember", ["a", "1"]),
        ("recall", ["a"]),
        ("recall", ["b"]),
        ("forget", ["a"]),
        ("churn", [12]),
        ("count", []),
    ]
    for language in ("rust", "python"):
        async with loaded(state_guest(language)) as guest:
            assert await guest.perform(await guest.instance(), calls) == [1, "1", None, True, 42, 1]
