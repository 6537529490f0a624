"""A crash at every operation on every store, before it and after it: nothing is lost, doubled or reordered.

The process is an event loop's objects here, which are thrown away; `tests/faults` does the same to real processes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence

import pytest

from faults.model import Memory, Model, Step, encoded
from perdure.component.component import BoundComponent
from perdure.durable import recorder
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.instance import DurableInstance
from perdure.durable.policy import BucketPolicy
from perdure.durable.settings import CommitMode, MemoryMode
from perdure.durable.store import Store
from support.crashing import Crash, Fuse, all_crashing
from support.engine import call, deadline, environment, fresh_stores, library

FAR = BucketPolicy("far", "away")


def program(chance: random.Random) -> list[Step]:
    """Some steps whose outcome tells how often those before them were carried out."""

    def step() -> Step:
        bucket = chance.choice(["near", "far"])
        match chance.randrange(7):
            case 0:
                return {"put": [bucket, chance.choice("ab"), encoded(chance.randbytes(3))]}
            case 1:
                return {"remove": [bucket, chance.choice("ab")]}
            case 2 | 3:
                return {"add": [bucket, "n", chance.randrange(1, 10)]}
            case 4:
                return {"swap": [bucket, chance.choice("ab"), encoded(chance.randbytes(3))]}
            case 5:
                return {"get": [bucket, chance.choice("abn")]}
            case _:
                return {"remember": chance.randrange(1, 10)}

    return [step() for _ in range(chance.randrange(1, 5))]


class Scenario:
    """Programs sent one after another by a caller that repeats what was not answered, under the same key."""

    def __init__(
        self,
        bound: BoundComponent,
        stores: Mapping[str, Store],
        mode: CommitMode,
        memory: MemoryMode,
        seed: int,
        policies: Sequence[BucketPolicy] = (FAR,),
        program: Callable[[random.Random], list[Step]] = program,
    ) -> None:
        self._policies = policies
        self._bound = bound
        self._memory = memory
        self._stores = stores
        self._mode = mode
        chance = random.Random(seed)
        self.programs = [program(chance) for _ in range(4)]
        self._snapshot_after = chance.randrange(4)

    async def play(self, fuse: Fuse) -> tuple[list[object], int]:
        """The answers, and how many crashes there were."""
        answers: list[object] = []
        crashes = 0
        instance: DurableInstance | None = None
        code = library(self._bound)
        stores: Mapping[str, Store] = all_crashing(self._stores, fuse)
        while len(answers) < len(self.programs):
            number = len(answers)
            try:
                if instance is None or not instance.usable:
                    settings = environment(stores, *self._policies, commit=self._mode, memory=self._memory)
                    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
                result = await call(instance, self._bound, "run", self.programs[number], key=f"key-{number}")
                answers.append(json.loads(result.body))
                if number == self._snapshot_after and self._memory is MemoryMode.INSTANCE:
                    taken = await instance.capture()
                    assert taken is not None
                    await instance.keep(taken, instance.sequence)
            except Crash:
                crashes += 1
                if instance is not None:
                    instance.close()
                instance, stores = None, self._stores
        settings = environment(self._stores, *self._policies, memory=self._memory)
        final = await DurableInstance.open("alice", code, settings, deadline=deadline())
        answers.append(json.loads((await call(final, self._bound, "memory")).body)[:2])
        final.close()
        code.close()
        return answers, crashes


async def _contents(stores: Mapping[str, Store]) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for bucket, store in (("near", "home"), ("far", "away")):
        address = BucketAddress(Scope.WORKER, bucket)
        keys = (await stores[store].keys(address, None, 100)).keys
        values = await stores[store].get_many(address, keys)
        found[bucket] = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
    return found


def _expected(model: Model, program: list[Step], memory: MemoryMode) -> object:
    if memory is MemoryMode.INVOCATION:
        model.delete("alice")
    return model.run("alice", program)


async def _sweep(
    ledger: BoundComponent,
    mode: CommitMode,
    *,
    applied: bool,
    scenarios: int,
    kept: MemoryMode = MemoryMode.INSTANCE,
) -> None:
    seeds = random.sample(range(1 << 30), scenarios)
    boundaries: dict[str, int] = {}
    for seed in seeds:
        operations = 0
        while True:
            operations += 1
            stores = fresh_stores()
            scenario, model = Scenario(ledger, stores, mode, kept, seed), Model(effect=mode is CommitMode.EFFECT)
            fuse = Fuse(operations, applied=applied)
            answers, crashes = await scenario.play(fuse)
            expected: list[object] = [_expected(model, steps, kept) for steps in scenario.programs]
            memory = model.memories["alice"] if kept is MemoryMode.INSTANCE else Memory()
            where = f"seed {seed}, crash at operation {operations} ({fuse.burnt})"
            assert answers == [*expected, [memory.sum, memory.ended]], where
            assert await _contents(stores) == model.buckets, where
            if not crashes:
                break
            boundaries[fuse.burnt or ""] = boundaries.get(fuse.burnt or "", 0) + 1
    seen = {"snapshot"} if kept is MemoryMode.INSTANCE else set()
    assert boundaries.keys() >= seen | {"claim", "commit", "apply_foreign", "applied", "get_many"}


@pytest.mark.parametrize("mode", list(CommitMode))
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation(ledger: BoundComponent, mode: CommitMode, applied: bool) -> None:
    await _sweep(ledger, mode, applied=applied, scenarios=6)


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_where_each_read_is_a_gate(
    ledger: BoundComponent, applied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is where a call reads much."""
    monkeypatch.setattr(recorder, "UNSAVED", 0)
    await _sweep(ledger, CommitMode.INVOCATION, applied=applied, scenarios=6)


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_where_each_call_begins_with_new_memory(ledger: BoundComponent, applied: bool) -> None:
    await _sweep(ledger, CommitMode.EFFECT, applied=applied, scenarios=6, kept=MemoryMode.INVOCATION)
