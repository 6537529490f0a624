"""What a hand has deleted from a Redis server: an instance's own hash, and its entry in the index of what is due."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.calls import CallPayload, encode
from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb
from perdure.durable.departing import delete_instance
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.environment import EngineEnvironment
from perdure.durable.inbox import NewCall
from perdure.durable.journal import call_fingerprint
from perdure.durable.policy import BucketPolicy
from perdure.durable.store import Store
from perdure.errors import NoSuchInstance, Quarantined
from perdure.host.checking import check_instance
from perdure.host.instances import InstanceTable
from perdure.providers.memory import MemoryStore, MemoryWorld
from perdure.providers.redis import RedisConfig, RedisStore
from providers.owners import some_worker
from support.engine import WORKER, call, environment, library
from support.servers import RedisServer

NEAR = BucketAddress(Scope.WORKER, "near")
RUN = "perdure:ledger/program.run"


@pytest.fixture
def code(ledger: BoundComponent) -> Iterator[ComponentLibrary]:
    made = library(ledger)
    yield made
    made.close()


@pytest.fixture
async def shared(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = await RedisStore.open(RedisConfig(redis.url), some_worker())
    yield store
    await store.close()


def keys_of(redis: RedisServer, store: RedisStore, ending: str) -> list[bytes]:
    return [key for key in redis.do("KEYS", f"{store._keys.prefix}*") if key.decode().endswith(ending)]


def lose_hash(redis: RedisServer, store: RedisStore) -> None:
    (key,) = [key for key in keys_of(redis, store, ":alice") if key.endswith(b"i:alice")]
    redis.do("DEL", key)


def payloads(redis: RedisServer, store: RedisStore) -> list[bytes]:
    return [key for key in keys_of(redis, store, ":alice") if b":bl:" in key or b"}bl:" in key]


def table_of(code: ComponentLibrary, settings: EngineEnvironment) -> InstanceTable:
    return InstanceTable(code, settings, max_in_memory=10, max_queued=10)


async def filled(
    code: ComponentLibrary, ledger: BoundComponent, store: Store, redis: RedisServer, *, snapshot: bool
) -> None:
    table = table_of(code, environment({"home": store}))
    for number in range(3):
        steps = [{"add": ["near", "n", 1]}, {"remember": 1}, {"put": ["near", "big", "A" * 200_000]}]
        await call((table, "alice"), ledger, "run", steps, key=f"k{number}")
    if snapshot:
        await table.control("alice", Verb.SNAPSHOT)
    table.close()


@pytest.mark.parametrize("snapshot", [False, True], ids=["journal", "snapshot"])
@pytest.mark.parametrize("called", [False, True], ids=["at-once", "after-a-call"])
async def test_an_instance_without_its_hash_can_be_reset(
    code: ComponentLibrary, ledger: BoundComponent, redis: RedisServer, shared: RedisStore, snapshot: bool, called: bool
) -> None:
    await filled(code, ledger, shared, redis, snapshot=snapshot)
    assert bool(payloads(redis, shared)) is not snapshot, "negative control"
    lose_hash(redis, shared)
    table = table_of(code, environment({"home": shared}))
    if called:
        with pytest.raises(Quarantined):
            await call((table, "alice"), ledger, "memory")
    found = await check_instance(shared, "alice")
    assert found is not None and {one.code for one in found.findings} == {"gap"}
    await table.control("alice", Verb.RESET)
    # Memory is gone, results and buckets are not; and it goes on soundly.
    assert json.loads((await call((table, "alice"), ledger, "memory")).body)[0] == 0
    assert await shared.get_many(NEAR, ["n"]) == [b"3"]
    assert (await shared.result("alice", "k1")) is not None
    await call((table, "alice"), ledger, "run", [{"remember": 7}])
    table.close()
    table = table_of(code, environment({"home": shared}))
    assert json.loads((await call((table, "alice"), ledger, "memory")).body)[0] == 7
    found = await check_instance(shared, "alice")
    assert found is not None and found.findings == []
    assert payloads(redis, shared) == [], "nothing of before is left that no entry names"
    table.close()


@pytest.mark.parametrize("snapshot", [False, True], ids=["journal", "snapshot"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["home", "elsewhere"])
async def test_an_instance_without_its_hash_can_be_deleted(
    code: ComponentLibrary,
    ledger: BoundComponent,
    redis: RedisServer,
    shared: RedisStore,
    snapshot: bool,
    elsewhere: bool,
) -> None:
    await filled(code, ledger, shared, redis, snapshot=snapshot)
    lose_hash(redis, shared)
    stores: dict[str, Store] = {"home": shared, "away": MemoryStore(MemoryWorld(), WORKER)}
    policies = [BucketPolicy("far", "away", scope=Scope.INSTANCE)] if elsewhere else []
    settings = environment(stores, *policies)
    assert await delete_instance("alice", settings) is True
    assert keys_of(redis, shared, ":alice") == []
    assert await delete_instance("alice", settings) is False, "negative control"
    table = table_of(code, settings)
    with pytest.raises(NoSuchInstance):
        await table.control("alice", Verb.RESET)
    assert await check_instance(shared, "alice") is None
    table.close()


@pytest.mark.parametrize("committed", [False, True], ids=["new", "committed"])
async def test_a_call_that_the_index_has_lost_is_found_and_resumed(
    code: ComponentLibrary, ledger: BoundComponent, redis: RedisServer, shared: RedisStore, committed: bool
) -> None:
    table = table_of(code, environment({"home": shared}))
    if committed:
        await call((table, "alice"), ledger, "run", [{"remember": 1}])
    arguments = json.dumps([[{"add": ["near", "n", 1]}]]).encode()
    new = NewCall("k", call_fingerprint(RUN, arguments), encode(CallPayload(RUN, arguments, 0)))
    await shared.enqueue("alice", new, 10)
    found = await check_instance(shared, "alice")
    assert found is not None and found.findings == [], "negative control"
    assert redis.do("ZREM", shared._keys.due, "alice") == 1
    assert (await shared.due(10)).instances == []
    found = await check_instance(shared, "alice")
    assert found is not None and [one.code for one in found.findings] == ["due"]
    assert "1 accepted calls wait" in found.findings[0].detail and "perdure resume alice" in found.findings[0].detail
    await table.control("alice", Verb.RESUME)
    assert (await shared.due(10)).instances == ["alice"]
    await table.run_pending("alice")
    assert await shared.get_many(NEAR, ["n"]) == [b"1"]
    # Halted it is not in the index, and rightly so.
    await shared.enqueue("alice", NewCall("l", new.fingerprint, new.payload), 10)
    await table.control("alice", Verb.INTERRUPT)
    found = await check_instance(shared, "alice")
    assert found is not None and found.findings == []
    table.close()
