"""Buckets at providers that cannot be a home: a crash at every operation, and more than one transaction takes."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from durable.test_crashes import Scenario, _contents
from faults.model import Model, encoded
from perdure.component.component import BoundComponent
from perdure.durable.effects import BucketAddress, Fill, Put, Remove, Scope, Swap
from perdure.durable.instance import DurableInstance
from perdure.durable.policy import BucketLimits, BucketPolicy
from perdure.durable.records import Committed, ForeignApply, WorkerId
from perdure.durable.settings import CommitMode, MemoryMode
from perdure.durable.store import ForeignStore
from perdure.providers.memory import MemoryStore, MemoryWorld
from providers.worlds import FOREIGN, ForeignWorld, foreign_world_of
from support.crashing import Fuse
from support.engine import WORKER, call, deadline, environment, library


@pytest.fixture(params=sorted(FOREIGN))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ForeignWorld[Any]]:
    made = foreign_world_of(request.param, request, tmp_path)
    yield made
    await made.close()


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation(ledger: BoundComponent, world: ForeignWorld[Any], applied: bool) -> None:
    mode = random.choice(list(CommitMode))
    seed = random.randrange(1 << 30)
    away = await world.open(WorkerId(f"ns-{uuid.uuid4().hex[:8]}", "carts"))
    boundaries: set[str] = set()
    operations = 0
    while True:
        operations += 1
        stores: dict[str, Any] = {"home": MemoryStore(MemoryWorld(), WORKER), "away": away}
        scenario, model = (
            Scenario(ledger, stores, mode, MemoryMode.INSTANCE, seed),
            Model(effect=mode is CommitMode.EFFECT),
        )
        fuse = Fuse(operations, applied=applied)
        answers, crashes = await scenario.play(fuse)
        expected: list[object] = [model.run("alice", steps) for steps in scenario.programs]
        memory = model.memories["alice"]
        where = f"seed {seed}, {mode}, crash at operation {operations} ({fuse.burnt})"
        assert answers == [*expected, [memory.sum, memory.ended]], where
        assert await _contents(stores) == model.buckets, where
        if not crashes:
            break
        boundaries.add(fuse.burnt or "")
        await _emptied(away)
    assert boundaries >= {"claim", "commit"}


async def _emptied(store: ForeignStore) -> None:
    bucket = BucketAddress(Scope.WORKER, "far")
    page = await store.keys(bucket, None, 100)
    await store.apply_foreign(ForeignApply(uuid.uuid4().hex, 1, [Remove(bucket, key) for key in page.keys]))


class Bounded(MemoryStore):
    """Counts what is applied together."""

    bounds = BucketLimits(value_bytes=100, effects=4, bytes=400, overhead=10)

    @property
    def limits(self) -> BucketLimits:
        return self.bounds

    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        size = 0
        for effect in apply.effects:
            assert not isinstance(effect, Fill), "no program here sets many"
            size += len(effect.key) + (len(effect.value) if isinstance(effect, Put | Swap) else 0)
        assert not self.bounds.exceeded(len(apply.effects), size), apply
        sizes.append(len(apply.effects))
        return await super().apply_foreign(apply)


sizes: list[int] = []


@pytest.mark.parametrize("reopened", [False, True])
async def test_more_than_one_transaction_takes_goes_behind_gates(ledger: BoundComponent, reopened: bool) -> None:
    """Never in pieces of one commit: each part is applied whole, and replay takes the same way."""
    sizes.clear()
    home, away = MemoryStore(MemoryWorld(), WORKER), Bounded(MemoryWorld(), WORKER)
    policy = BucketPolicy("far", "away", limits=away.limits, max_value_bytes=100)
    settings = environment({"home": home, "away": away}, policy)
    program: list[dict[str, Any]] = [{"put": ["far", f"k{n}", encoded(bytes(n))]} for n in range(11)]
    program += [
        {"add": ["far", "n", 1]},
        {"put": ["far", "a", encoded(bytes(90))]},
        {"put": ["far", "b", encoded(bytes(90))]},
    ]
    program += [{"swap": ["far", "c", encoded(bytes(90))]}, {"remember": 1}, {"add": ["far", "n", 1]}]
    code = library(ledger)
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    answer = await call(instance, ledger, "run", program, key="1")
    if reopened:
        instance.close()
        instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    assert (await call(instance, ledger, "run", program, key="1")).body == answer.body
    memory = await call(instance, ledger, "memory")
    assert b"[1," in memory.body.replace(b" ", b"")
    found = await away.get_many(BucketAddress(Scope.WORKER, "far"), ["k10", "n", "b", "c"])
    assert found == [bytes(10), b"2", bytes(90), bytes(90)]
    assert max(sizes) == 4 and sum(sizes) == 16
    instance.close()
    code.close()


def test_limits() -> None:
    limits = BucketLimits(value_bytes=100, effects=4, bytes=400, overhead=10)
    assert limits.together and not BucketLimits(key_bytes=1).together
    assert not limits.exceeded(4, 360)
    assert limits.exceeded(5, 0) and limits.exceeded(4, 361) and not BucketLimits().exceeded(1 << 20, 1 << 40)
