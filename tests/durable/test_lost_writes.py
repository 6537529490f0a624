"""A store that holds less than it acknowledged: noticed, counted, and never passed over in silence."""

from __future__ import annotations

import copy
import json

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.homewatch import HomeWatch
from perdure.durable.instance import DurableInstance
from perdure.errors import LostWrites
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.engine import WORKER, call, deadline, environment, library


async def test_a_store_that_lost_its_latest_commits_is_noticed(ledger: BoundComponent) -> None:
    world = MemoryWorld()
    watch = HomeWatch()
    settings = environment({"home": MemoryStore(world, WORKER)}, watch=watch)
    instance = await DurableInstance.open("alice", library(ledger), settings, deadline=deadline())
    await call(instance, ledger, "run", [{"remember": 1}])
    backup = copy.deepcopy(world.workers[WORKER].instances)
    for _ in range(3):
        await call(instance, ledger, "run", [{"remember": 10}])
    world.workers[WORKER].instances = backup
    with pytest.raises(LostWrites):
        await call(instance, ledger, "run", [{"remember": 100}])
    assert not instance.usable
    instance.close()
    again = await DurableInstance.open("alice", library(ledger), settings, deadline=deadline())
    assert watch.lost == 3
    assert json.loads((await call(again, ledger, "memory")).body)[:2] == [1, 1]
    again.close()


async def test_a_store_that_was_emptied_stops_everything(ledger: BoundComponent) -> None:
    watch = HomeWatch()
    first = environment({"home": MemoryStore(MemoryWorld(), WORKER)}, watch=watch)
    instance = await DurableInstance.open("alice", library(ledger), first, deadline=deadline())
    instance.close()
    emptied = environment({"home": MemoryStore(MemoryWorld(), WORKER)}, watch=watch)
    for name in ("alice", "bob"):
        with pytest.raises(LostWrites, match="replaced while this host ran"):
            await DurableInstance.open(name, library(ledger), emptied, deadline=deadline())
    assert watch.problem is not None
    # Started anew, a host takes the store as it is.
    anew = environment({"home": MemoryStore(MemoryWorld(), WORKER)})
    (await DurableInstance.open("alice", library(ledger), anew, deadline=deadline())).close()
