"""A crash at every store operation under what the first two generations alone have: exactly once, or the test says so.

The mutant beside it leaves out what makes an atomic operation exactly once: its outcome in the journal.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from faults.model import encoded
from perdure.component.component import BoundComponent
from perdure.durable import recovery
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.instance import DurableInstance
from perdure.durable.policy import BucketCatalog, BucketPolicy, CachePolicy
from perdure.durable.store import Store
from perdure.durable.vacancies import InstanceCache
from perdure.keyvalue.bucket import Claim
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.crashing import Crash, Fuse, all_crashing
from support.engine import WORKER, call, deadline, environment, library

FAR = BucketPolicy("far", "away")
Step = dict[str, Any]


def counters(chance: random.Random) -> list[Step]:
    """Steps whose outcomes tell how often the swaps before them were carried out."""

    def step() -> Step:
        bucket = chance.choice(["near", "far"])
        match chance.randrange(4):
            case 0:
                return {"add": [bucket, "n", chance.randrange(1, 3)]}
            case 1:
                return {"remember": chance.randrange(1, 10)}
            case _:
                # Half of them find the number that they name.
                return {"compare-and-swap": [bucket, "n", chance.randrange(4), chance.randrange(4)]}

    return [step() for _ in range(chance.randrange(2, 5))]


class Counters:
    """What a guest that never crashes would have answered."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.sum = 0

    def run(self, steps: Sequence[Step]) -> list[object]:
        return [self._step(*next(iter(step.items()))) for step in steps]

    def _step(self, kind: str, args: Any) -> object:
        if kind == "remember":
            self.sum += args
            return {"number": self.sum}
        bucket, _, first, *rest = args
        if kind == "add":
            self.values[bucket] = self.values.get(bucket, 0) + first
            return {"number": self.values[bucket]}
        swapped = self.values.get(bucket) == first
        if swapped:
            self.values[bucket] = rest[0]
        return {"truth": swapped}


async def play(bound: BoundComponent, programs: Sequence[list[Step]], stores: dict[str, Store], fuse: Fuse) -> object:
    """The answers of a caller that repeats what was not answered, under the same key."""
    answers: list[object] = []
    code = library(bound)
    instance: DurableInstance | None = None
    seen = all_crashing(stores, fuse)
    while len(answers) < len(programs):
        try:
            if instance is None or not instance.usable:
                instance = await DurableInstance.open("a", code, environment(seen, FAR), deadline=deadline())
            key = f"key-{len(answers)}"
            result = await call(instance, bound, "run", programs[len(answers)], key=key)
            answers.append(json.loads(result.body))
        except Crash:
            if instance is not None:
                instance.close()
            instance, seen = None, stores
    if instance is not None:
        instance.close()
    code.close()
    return answers


async def _wrong(bound: BoundComponent, seed: int, *, applied: bool) -> tuple[list[str], int]:
    """Which crashes gave other answers or values than none would have; and how many there were."""
    chance = random.Random(seed)
    programs = [counters(chance) for _ in range(3)]
    model = Counters()
    expected = [model.run(steps) for steps in programs]
    wrong: list[str] = []
    operations = 0
    while True:
        operations += 1
        stores: dict[str, Store] = {name: MemoryStore(MemoryWorld(), WORKER) for name in ("home", "away")}
        fuse = Fuse(operations, applied=applied)
        answers = await play(bound, programs, stores, fuse)
        values = {}
        for bucket, store in (("near", "home"), ("far", "away")):
            (value,) = await stores[store].get_many(BucketAddress(Scope.WORKER, bucket), ["n"])
            if value is not None:
                values[bucket] = int(value)
        if answers != expected or values != model.values:
            wrong.append(f"seed {seed}, crash at operation {operations} ({fuse.burnt})")
        if fuse.burnt is None:
            return wrong, operations - 1


LEASE_MS = 30_000
"""Longer than a crash and what follows takes here: a vacancy that ended before its fill would be a defect."""


async def _filled(bound: BoundComponent, operations: int, *, applied: bool) -> tuple[list[str], str | None]:
    """One caller fills a missing value and crashes; another meets it. What is wrong, and where the crash was."""
    stores: dict[str, Store] = {name: MemoryStore(MemoryWorld(), WORKER) for name in ("home", "away")}
    fuse = Fuse(operations, applied=applied)
    catalog = BucketCatalog((), home="home", undeclared=True, cache=CachePolicy("cache", LEASE_MS))
    if operations % 2:
        # The cache is another provider's every second time.
        far = BucketPolicy("cache", "away")
        catalog = BucketCatalog((far,), home="home", undeclared=True, cache=CachePolicy("cache", LEASE_MS))
    code = library(bound)

    async def call_of(name: str, seen: dict[str, Store], steps: list[Any]) -> list[Any]:
        """As a caller would: again under the same key until there is an answer."""
        while True:
            instance: DurableInstance | None = None
            try:
                settings = replace(environment(seen), catalog=catalog)
                instance = await DurableInstance.open(name, code, settings, deadline=deadline())
                result = await call(instance, bound, "run", steps, key="key")
                answers: list[Any] = json.loads(result.body)
                return answers
            except Crash:
                seen = stores
            finally:
                if instance is not None:
                    instance.close()

    def steps(text: bytes) -> list[Any]:
        return [{"add": ["near", "calls", 1]}, {"get-or-set": ["k", encoded(text), None]}, {"remember": 1}]

    first, second = await asyncio.gather(
        call_of("a", all_crashing(stores, fuse), steps(b"a")), call_of("b", stores, steps(b"b"))
    )
    third = await call_of("c", stores, [{"cache-get": "k"}])
    code.close()
    wrong: list[str] = []
    where = f"crash at operation {operations} ({fuse.burnt})"
    seen = {name: answer[1] for name, answer in (("a", first), ("b", second))}
    fillers = [name for name, found in seen.items() if found == "filled"]
    if len(fillers) != 1:
        wrong.append(f"{where}: filled by {fillers}")
    else:
        held = {"value": encoded(fillers[0].encode())}
        if third != [held] or any(found not in ("filled", held) for found in seen.values()):
            wrong.append(f"{where}: {seen}, and the cache has {third}")
    if {first[0]["number"], second[0]["number"]} != {1, 2}:
        wrong.append(f"{where}: what came before was not carried out once")
    return wrong, fuse.burnt


async def _all_filled(bound: BoundComponent, *, applied: bool) -> tuple[list[str], list[str]]:
    wrong: list[str] = []
    burnt: list[str] = []
    for operations in range(1, 60):
        found, where = await _filled(bound, operations, applied=applied)
        wrong += found
        if where is not None:
            burnt.append(where)
        elif operations > 20:
            break
    return wrong, burnt


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_missing_value_is_filled_once(legacy: BoundComponent, applied: bool) -> None:
    wrong, burnt = await _all_filled(legacy, applied=applied)
    assert wrong == []
    assert {"commit", "claim", "get_many"} <= set(burnt)


async def test_the_sweep_finds_a_vacancy_that_two_have(legacy: BoundComponent, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: a vacancy for whoever finds no value, as hosts without a rendezvous give it."""
    both = asyncio.Barrier(2)

    async def look(self: InstanceCache, key: str) -> bytes | Claim | None:
        (value,) = await self.bucket.get_many([key])
        if value is None:
            # Both have looked before one of them fills.
            await asyncio.wait_for(both.wait(), 10)
        return Claim(b"mutant") if value is None else value

    monkeypatch.setattr(InstanceCache, "look", look)
    wrong, burnt = await _filled(legacy, 1000, applied=False)
    assert burnt is None
    assert any("filled by ['a', 'b']" in line for line in wrong)


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_compare_and_swap_is_carried_out_once(legacy: BoundComponent, applied: bool) -> None:
    crashes = 0
    for seed in random.sample(range(1 << 30), 6):
        wrong, tried = await _wrong(legacy, seed, applied=applied)
        assert wrong == []
        crashes += tried
    assert crashes > 60


async def test_the_sweep_finds_a_swap_whose_outcome_is_lost(
    legacy: BoundComponent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forgets(*args: object) -> None:
        return None

    monkeypatch.setattr(recovery, "_gate_outcome", forgets)
    found = [line for seed in range(8) for line in (await _wrong(legacy, seed, applied=True))[0]]
    assert found and all("commit" in line or "appl" in line for line in found)
