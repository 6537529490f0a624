"""A crash at every store operation under what the first two generations alone have: exactly once, or the test says so.

The mutant beside it leaves out what makes an atomic operation exactly once: its outcome in the journal.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.durable import recovery
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.instance import DurableInstance
from perdure.durable.policy import BucketPolicy
from perdure.durable.store import Store
from perdure.host.app import guest_interfaces
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.crashing import Crash, Fuse, all_crashing
from support.engine import WORKER, call, deadline, environment, library
from support.guests import guest

FAR = BucketPolicy("far", "away")
Step = dict[str, Any]


@pytest.fixture(params=["kv-g1", "kv-g2"])
async def legacy(request: pytest.FixtureRequest, engine: Engine) -> BoundComponent:
    return (await Component.load(engine, guest(request.param).read_bytes())).bind(guest_interfaces())


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
