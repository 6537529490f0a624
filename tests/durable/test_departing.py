"""A deletion deletes what the instance has at other providers, too, and nothing of whoever has its name next."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from perdure.component.component import BoundComponent
from perdure.durable import departing
from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb, control
from perdure.durable.departing import NOTES, clear, delete_instance, departed
from perdure.durable.effects import BucketAddress, Put, Remove, Scope, keys_of
from perdure.durable.environment import EngineEnvironment
from perdure.durable.foreign import origin_of
from perdure.durable.inbox import NewCall
from perdure.durable.instance import DurableInstance
from perdure.durable.policy import BucketLimits, BucketPolicy
from perdure.durable.records import ForeignApply, HostRecord
from perdure.durable.store import ForeignStore
from perdure.errors import ProviderUnavailable
from perdure.host.deletions import Deletions
from perdure.host.instances import InstanceTable
from perdure.host.metrics import HostMetrics
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.crashing import Crash, Fuse, all_crashing
from support.engine import WORKER, call, deadline, environment, library

FAR, ALL = BucketAddress(Scope.INSTANCE, "far", "alice"), BucketAddress(Scope.WORKER, "all")
POLICIES = (BucketPolicy("far", "away", scope=Scope.INSTANCE), BucketPolicy("all", "away"))
OLD = [{"put": ["far", f"k{number}", "b2xk"]} for number in range(250)] + [{"add": ["all", "n", 1]}]
NEW = [{"get": ["far", "k1"]}, {"put": ["far", "k1", "bmV3"]}, {"add": ["all", "n", 1]}]


class Away(MemoryStore):
    """May be out of reach, and count its transactions."""

    reachable = True
    transactions = 0

    async def apply_foreign(self, apply: ForeignApply) -> Any:
        if not self.reachable:
            raise ProviderUnavailable("away is away")
        self.transactions += 1
        return await super().apply_foreign(apply)

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> Any:
        if not self.reachable:
            raise ProviderUnavailable("away is away")
        return await super().keys(bucket, cursor, limit)


def stores() -> dict[str, Any]:
    return {"home": MemoryStore(MemoryWorld(), WORKER), "away": Away(MemoryWorld(), WORKER)}


def settings_of(made: Mapping[str, ForeignStore], **changes: object) -> EngineEnvironment:
    return environment(made, *POLICIES, **changes)


async def run(code: ComponentLibrary, settings: EngineEnvironment, bound: BoundComponent, program: object) -> object:
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    try:
        return json.loads((await call(instance, bound, "run", program)).body)
    finally:
        instance.close()


async def notes(made: Mapping[str, Any]) -> list[str]:
    return (await departed(made["home"], None, 10))[0]


async def test_nothing_is_left_and_a_new_life_is_let_alone(ledger: BoundComponent) -> None:
    made, code = stores(), library(ledger)
    settings = settings_of(made)
    await run(code, settings, ledger, OLD)
    assert await made["away"].count(FAR) == 250
    assert await delete_instance("alice", settings) is True
    assert await notes(made) == ["alice"], "negative control: the home store alone cannot do it"
    assert await made["away"].count(FAR) == 250
    await clear("alice", settings)
    assert (await made["away"].count(FAR), await notes(made)) == (0, [])
    assert await made["away"].get_many(ALL, ["n"]) == [b"1"], "what instances share stays"
    assert await delete_instance("alice", settings) is False
    assert await run(code, settings, ledger, NEW) == [{"value": None}, "nothing", {"number": 2}]
    await clear("alice", settings)
    assert await made["away"].get_many(FAR, ["k1"]) == [b"new"]
    code.close()


async def test_a_new_life_waits_until_nothing_is_left(ledger: BoundComponent) -> None:
    made, code = stores(), library(ledger)
    settings = settings_of(made)
    await run(code, settings, ledger, OLD)
    await delete_instance("alice", settings)
    made["away"].reachable = False
    with pytest.raises(ProviderUnavailable, match="away is away"):
        await DurableInstance.open("alice", code, settings, deadline=deadline())
    # Calls that are accepted meanwhile are the new life's. So are an operator's wishes.
    await made["home"].enqueue("alice", NewCall("k", b"f" * 32, b"", None), 10)
    with pytest.raises(ProviderUnavailable):
        await control("alice", Verb.RESET, code, settings)
    # Of a life that has done nothing there is nothing to note: what its predecessor left is not forgotten.
    assert await delete_instance("alice", settings) is True
    assert await notes(made) == ["alice"]
    made["away"].reachable = True
    assert await run(code, settings, ledger, NEW) == [{"value": None}, "nothing", {"number": 2}]
    assert await notes(made) == []
    code.close()


async def test_nothing_that_comes_late_has_an_effect(ledger: BoundComponent) -> None:
    made, code = stores(), library(ledger)
    settings = settings_of(made)
    await run(code, settings, ledger, OLD)
    peeked = await made["home"].peek("alice")
    assert peeked is not None
    origin = origin_of(WORKER, "alice", peeked.life)
    await delete_instance("alice", settings)
    (note,) = await made["home"].get_many(NOTES, ["alice"])
    await clear("alice", settings)
    # A host of the old life, and one that was clearing, were paused in the middle.
    await made["away"].apply_foreign(ForeignApply(origin, peeked.sequence + 1, [Put(FAR, "late", b"1")], "alice"))
    assert await made["away"].count(FAR) == 0
    await run(code, settings, ledger, NEW)
    late = ForeignApply(origin, departing.FENCED_AT + 7, [Remove(FAR, "k1")])
    await made["away"].apply_foreign(late)
    assert note is not None
    await made["home"].apply_foreign(ForeignApply("", 0, [Put(NOTES, "alice", note)]))
    await clear("alice", settings)
    assert await made["away"].get_many(FAR, ["k1"]) == [b"new"]
    # Negative control: without the life's sequences it would have.
    await made["away"].apply_foreign(dataclasses.replace(late, sequence=0))
    assert await made["away"].get_many(FAR, ["k1"]) == [None]
    code.close()


async def test_two_at_once_leave_nothing(ledger: BoundComponent) -> None:
    made, code = stores(), library(ledger)

    class Slow(Away):
        async def apply_foreign(self, apply: ForeignApply) -> Any:
            await asyncio.sleep(0)
            return await super().apply_foreign(apply)

    made["away"] = Slow(MemoryWorld(), WORKER)
    settings = settings_of(made)
    await run(code, settings, ledger, OLD)
    await delete_instance("alice", settings)
    await asyncio.gather(*(clear("alice", settings) for _ in range(5)))
    assert (await made["away"].count(FAR), await notes(made)) == (0, [])
    code.close()


async def test_effects_that_were_not_confirmed_are_applied(ledger: BoundComponent) -> None:
    """A call whose result is known must not lose what it did in a bucket that others share."""
    made, code = stores(), library(ledger)
    settings = settings_of(made)
    await run(code, settings, ledger, OLD)
    made["away"].reachable = False
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    program = [{"put": ["far", "k", "b2xk"]}, {"put": ["all", "k", "b2xk"]}]
    with pytest.raises(ProviderUnavailable):
        await call(instance, ledger, "run", program, key="k")
    instance.close()
    assert await delete_instance("alice", settings) is True
    with pytest.raises(ProviderUnavailable):
        await clear("alice", settings)
    made["away"].reachable = True
    await clear("alice", settings)
    assert await made["away"].get_many(ALL, ["k"]) == [b"old"]
    assert (await made["away"].count(FAR), await notes(made)) == (0, [])
    code.close()


async def test_a_provider_that_is_not_named_any_more_keeps_nothing_waiting(ledger: BoundComponent) -> None:
    made, code, said = stores(), library(ledger), []
    await run(code, settings_of(made), ledger, OLD)
    await delete_instance("alice", settings_of(made))
    del made["away"]
    settings = environment(made, log=lambda instance, stream, text: said.append((instance, text)))
    await clear("alice", settings)
    assert await notes(made) == []
    assert said == [("alice", b"what it had at provider 'away' stays: the manifest does not name that any more")]
    code.close()


async def test_what_the_instance_cannot_write_is_none_of_its_own(ledger: BoundComponent) -> None:
    """At a provider that lets nobody write a deletion would never end."""
    made, code = stores(), library(ledger)
    await run(code, settings_of(made), ledger, OLD)
    policies = (dataclasses.replace(POLICIES[0], read_only=True), POLICIES[1])
    await delete_instance("alice", environment(made, *policies))
    assert await notes(made) == []
    assert await made["away"].count(FAR) == 250
    code.close()


async def test_no_more_at_a_time_than_the_provider_takes(ledger: BoundComponent) -> None:
    class Bounded(Away):
        @property
        def limits(self) -> BucketLimits:
            return BucketLimits(value_bytes=100, effects=40, bytes=150, overhead=1)

        async def apply_foreign(self, apply: ForeignApply) -> Any:
            size = sum(len(key) for effect in apply.effects for key in keys_of(effect))
            if all(isinstance(effect, Remove) for effect in apply.effects):
                assert not self.limits.exceeded(len(apply.effects), size)
            return await super().apply_foreign(apply)

    made, code = stores(), library(ledger)
    made["away"] = Bounded(MemoryWorld(), WORKER)
    settings = settings_of(made)
    await run(code, settings, ledger, OLD)
    await delete_instance("alice", settings)
    before = made["away"].transactions
    await clear("alice", settings)
    assert await made["away"].count(FAR) == 0
    assert 250 // 40 < made["away"].transactions - before < 20
    code.close()


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation(ledger: BoundComponent, applied: bool) -> None:
    code, operations, boundaries = library(ledger), 0, set()
    while True:
        operations += 1
        made, fuse = stores(), Fuse(operations, applied=applied)
        settings = settings_of(made)
        await run(code, settings, ledger, OLD)
        seen = settings_of(all_crashing(made, fuse))
        try:
            await delete_instance("alice", seen)
            await clear("alice", seen)
        except Crash:
            boundaries.add(fuse.burnt)
        where = f"crash at operation {operations} ({fuse.burnt})"
        deleted = await made["home"].instance("alice") is None
        assert deleted == (await made["home"].peek("alice") is None), where
        answer = await run(code, settings, ledger, NEW)
        if deleted:
            assert answer == [{"value": None}, "nothing", {"number": 2}], where
            assert await made["away"].count(FAR) == 1, where
        else:
            assert answer == [{"value": "b2xk"}, "nothing", {"number": 2}], where
        for name in await notes(made):
            await clear(name, settings)
        assert await made["away"].get_many(FAR, ["k1"]) == [b"new"], where
        if fuse.burnt is None:
            break
    code.close()
    assert boundaries >= {"claim", "delete_instance", "apply_foreign", "get_many"}


class Members:
    """One host, or another one beside it."""

    def __init__(self, *others: str) -> None:
        self.me = HostRecord("one", "http://one")
        self.hosts = (self.me, *(HostRecord(other, f"http://{other}") for other in others))


async def test_hosts_look_for_what_deletions_have_left(ledger: BoundComponent) -> None:
    made, code = stores(), library(ledger)
    settings, metrics = settings_of(made), HostMetrics()
    table = InstanceTable(code, settings, max_in_memory=300, max_queued=1)
    deletions = Deletions(settings, Members(), metrics, patience=0.5)
    names = [f"i{number}" for number in range(120)]
    for name in names:
        await call((table, name), ledger, "run", [{"put": ["far", "k", "b2xk"]}])
    assert await deletions.delete("i0") is True
    made["away"].reachable = False
    assert [await deletions.delete(name) for name in names[1:]] == [False] * 119
    await deletions.look()
    assert metrics.registry.get_sample_value("perdure_deletions_waiting") == 119
    made["away"].reachable = True
    # Of two hosts each one does its share.
    await Deletions(settings, Members("two"), metrics).look()
    left = len((await departed(made["home"], None, 200))[0])
    assert 0 < left < 119
    await deletions.look()
    assert metrics.registry.get_sample_value("perdure_deletions_waiting") == 0
    assert (await departed(made["home"], None, 200))[0] == []
    assert sum([await made["away"].count(BucketAddress(Scope.INSTANCE, "far", name)) for name in names]) == 0
    table.close()
    code.close()
