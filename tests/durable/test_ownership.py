"""The engine over real stores and a real guest: who may answer, and what a change of owner or of life must not repeat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine, EngineConfig
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.environment import EngineEnvironment
from perdure.durable.instance import DurableInstance, Invocation, InvocationResult
from perdure.durable.policy import BucketCatalog, BucketPolicy
from perdure.durable.records import OwnerToken, WorkerId
from perdure.errors import Fenced
from perdure.host.app import guest_interfaces
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.engine import library
from support.hosts import EXAMPLE

WORKER = WorkerId("ns", "carts")
FAR = BucketAddress(Scope.WORKER, "far")


@pytest.fixture
async def bound(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BoundComponent]:
    with Engine(EngineConfig(cache_dir=tmp_path_factory.getbasetemp() / "compiled")) as engine:
        yield (await Component.load(engine, EXAMPLE.read_bytes())).bind(guest_interfaces())


class Hosts:
    """Several hosts of one Worker: `home` keeps journals, `away` the bucket `far`."""

    def __init__(self, bound: BoundComponent, home: MemoryStore, away: MemoryStore) -> None:
        self._bound = bound
        self.home = home
        self.away = away

    async def open(self, host: str, home: MemoryStore | None = None) -> DurableInstance:
        environment = EngineEnvironment(
            worker=WORKER,
            host=host,
            home=home or self.home,
            stores={"home": home or self.home, "away": self.away},
            catalog=BucketCatalog((BucketPolicy("far", "away"),), home="home", undeclared=True),
        )
        deadline = asyncio.get_running_loop().time() + 30
        return await DurableInstance.open("alice", library(self._bound), environment, deadline=deadline)

    async def call(
        self, instance: DurableInstance, name: str, *args: object, key: str | None = None
    ) -> InvocationResult:
        function = next(func for func in self._bound.component.exports if func.name == name)
        deadline = asyncio.get_running_loop().time() + 30
        return await instance.invoke(Invocation(function, json.dumps(args).encode(), key, deadline))

    async def far(self, key: str) -> bytes | None:
        return (await self.away.get_many(FAR, [key]))[0]


@pytest.fixture
def hosts(bound: BoundComponent) -> Hosts:
    return Hosts(bound, MemoryStore(MemoryWorld(), WORKER), MemoryStore(MemoryWorld(), WORKER))


async def test_a_former_owner_does_not_answer_from_its_memory(hosts: Hosts) -> None:
    await hosts.call(await hosts.open("one"), "set", "b", "k", "AAAA", key="first")
    # Neither a stored result nor a fresh call may come from the former owner, and it knows it is one from then on.
    for name, args, key in (("set", ("b", "k", "AAAA"), "first"), ("get", ("b", "k"), None)):
        stale = await hosts.open("one")
        await hosts.open("two")
        with pytest.raises(Fenced):
            await hosts.call(stale, name, *args, key=key)
        assert not stale.usable


async def test_a_former_owner_gives_its_copy_up_when_it_can_keep_no_snapshot(hosts: Hosts) -> None:
    stale = await hosts.open("one")
    await hosts.call(stale, "set", "b", "k", "AAAA", key="first")
    taken = await stale.capture()
    assert taken is not None
    await hosts.open("two")
    with pytest.raises(Fenced):
        await stale.keep(taken, stale.sequence)
    assert not stale.usable, "each later snapshot would be fenced, too, and nobody would claim the instance"


class TakenOver(MemoryStore):
    """Another host claims the instance between the foreign effects and their confirmation."""

    @override
    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        await self.claim(instance, "other", "two")
        await super().applied(instance, token, sequence)


async def test_a_call_that_is_carried_out_is_answered_though_the_owner_changed(hosts: Hosts) -> None:
    world = MemoryWorld()
    instance = await hosts.open("one", TakenOver(world, WORKER))
    assert (await hosts.call(instance, "set", "far", "k", "AAAA")).body == b"null"
    assert not instance.usable
    successor = await hosts.open("two", MemoryStore(world, WORKER))
    assert (await hosts.call(successor, "calls")).body == b"1", "a second run would have doubled the call"
    assert await hosts.far("k") == b"\0\0\0"


async def test_a_new_life_of_an_instance_is_not_taken_for_its_former_one(hosts: Hosts) -> None:
    first = await hosts.open("one")
    for value in ("AAAA", "BBBB"):
        await hosts.call(first, "set", "far", "k", value)
    await hosts.home.delete_instance("alice")
    again = await hosts.open("one")
    await hosts.call(again, "set", "far", "k", "CCCC")
    assert await hosts.far("k") == b"\x08\x20\x82"
    # The same where the Worker got another home: there the instance begins anew, too.
    moved = await hosts.open("one", MemoryStore(MemoryWorld(), WORKER))
    await hosts.call(moved, "set", "far", "k", "DDDD")
    assert await hosts.far("k") == b"\x0c\x30\xc3"
