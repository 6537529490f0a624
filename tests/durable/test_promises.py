"""Promises: waited for across crashes, completed once, and what the guest knows of itself."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping

import pytest

from perdure.component.component import BoundComponent
from perdure.durable import promises
from perdure.durable.calls import CallPayload, encode
from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.environment import EngineEnvironment
from perdure.durable.inbox import NewCall
from perdure.durable.instance import DurableInstance, InvocationResult
from perdure.durable.journal import call_fingerprint
from perdure.durable.policy import PROMISES, BucketCatalog
from perdure.durable.promises import COMPLETED, FAILED, PENDING, Completion, complete, instance_of, look, promise_id
from perdure.durable.settings import CommitMode
from perdure.durable.store import Store
from perdure.errors import InvocationTimeout, Suspended
from perdure.host.instances import InstanceTable
from perdure.keyvalue.bucket import NoSuchBucket
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.crashing import Crash, Fuse, all_crashing
from support.engine import WORKER, call, deadline, environment, invocation, library

NEAR = BucketAddress(Scope.WORKER, "near")
HOUR = 3_600_000
ANSWER = {"ok": base64.b64encode(b"yes").decode()}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An asynchronous call leaves memory as soon as it waits."""
    monkeypatch.setattr(promises, "PATIENCE", 0.0)


def table_of(code: ComponentLibrary, settings: EngineEnvironment) -> InstanceTable:
    return InstanceTable(code, settings, max_in_memory=10, max_queued=10)


def ask(key: str) -> NewCall:
    function, arguments = "perdure:errand/errand.ask", b'["near"]'
    return NewCall(key, call_fingerprint(function, arguments), encode(CallPayload(function, arguments, 0)), None)


async def asked(store: Store) -> str:
    """The promise that the guest waits for, once it is told."""
    while (found := (await store.get_many(NEAR, ["id"]))[0]) is None:
        await asyncio.sleep(0.01)
    return found.decode()


async def opened(bound: BoundComponent, store: Store, name: str = "alice") -> DurableInstance:
    return await DurableInstance.open(name, library(bound), environment({"home": store}), deadline=deadline())


def parsed(result: InvocationResult) -> object:
    return json.loads(result.body)


async def test_who_runs_and_what_for(errand: BoundComponent, home: Store) -> None:
    instance = await opened(errand, home)
    assert parsed(await call(instance, errand, "about", key="first")) == ["alice", "ns/carts", "first"]
    assert parsed(await call(instance, errand, "about")) == ["alice", "ns/carts", None]
    instance.close()
    # Replay of both, which would quarantine the instance if it went another way.
    again = await opened(errand, home)
    assert parsed(await call(again, errand, "answered")) == 0
    again.close()


async def test_a_synchronous_call_waits_in_its_time(errand: BoundComponent, home: Store) -> None:
    instance = await opened(errand, home)
    running = asyncio.create_task(call(instance, errand, "ask", "near", key="first"))
    promise = await asked(home)
    assert not running.done() and await look(home, promise) == PENDING
    assert await complete(home, promise, COMPLETED + b"yes", HOUR) is Completion.DONE
    assert parsed(await running) == ANSWER
    assert await home.get_many(NEAR, ["asked", "answered"]) == [b"1", b"1"]
    instance.close()
    again = await opened(errand, home)
    assert parsed(await call(again, errand, "answered")) == 1
    # One that is completed is no wait, and no gate.
    before = again.sequence
    assert parsed(await call(again, errand, "wait", promise)) == ANSWER
    assert again.sequence == before + 1
    again.close()


async def test_a_synchronous_call_does_not_wait_beyond_its_time(errand: BoundComponent, home: Store) -> None:
    instance = await opened(errand, home)
    what = invocation(errand, "ask", "near", key="first")
    with pytest.raises(InvocationTimeout):
        await instance.invoke(type(what)(what.function, what.arguments, what.key, deadline(1.5)))
    instance.close()
    # What its gates made durable stays; memory is as before.
    again = await opened(errand, home)
    assert parsed(await call(again, errand, "answered")) == 0
    assert await home.get_many(NEAR, ["asked", "answered"]) == [b"1", None]
    again.close()


async def test_a_synchronous_call_whose_host_dies(errand: BoundComponent, home: Store) -> None:
    instance = await opened(errand, home)
    running = asyncio.create_task(call(instance, errand, "ask", "near", key="first"))
    promise = await asked(home)
    running.cancel()
    await asyncio.wait([running])
    instance.close()
    await complete(home, promise, COMPLETED + b"yes", HOUR)
    again = await opened(errand, home)
    result = await call(again, errand, "ask", "near", key="first")
    assert (parsed(result), result.stored) == (ANSWER, True)
    assert await home.get_many(NEAR, ["asked", "answered"]) == [b"1", b"1"]
    again.close()


async def test_the_first_completion_counts(errand: BoundComponent, home: Store) -> None:
    instance = await opened(errand, home)
    promise = str(parsed(await call(instance, errand, "promise")))
    assert instance_of(promise) == "alice"
    unknown = promise_id("alice", b"x" * 16)
    for other in (unknown, "", "x", promise + "0", promise.upper(), "=.00"):
        assert await complete(home, other, COMPLETED, HOUR) is Completion.UNKNOWN
        assert parsed(await call(instance, errand, "wait", other)) == {"err": "no such promise"}
    failure = FAILED + b"too late"
    assert await complete(home, promise, failure, HOUR) is Completion.DONE
    assert await complete(home, promise, failure, HOUR) is Completion.DONE
    assert await complete(home, promise, COMPLETED + b"too late", HOUR) is Completion.OTHER
    assert parsed(await call(instance, errand, "wait", promise)) == {"err": "failed: too late"}
    # Another instance of the Worker may wait for it, too; with its instance it is gone.
    bob = await opened(errand, home, "bob")
    assert parsed(await call(bob, errand, "wait", promise)) == {"err": "failed: too late"}
    await home.delete_instance("alice")
    assert parsed(await call(bob, errand, "wait", promise)) == {"err": "no such promise"}
    instance.close()
    bob.close()


async def test_a_promise_of_a_call_that_came_to_nothing_is_none(errand: BoundComponent, home: Store) -> None:
    """Made in a commit, not before it."""
    fuse = Fuse(2, applied=False)
    settings = environment(all_crashing({"home": home}, fuse))
    instance = await DurableInstance.open("alice", library(errand), settings, deadline=deadline())
    with pytest.raises(Crash):
        await call(instance, errand, "promise")
    assert fuse.burnt == "commit"
    assert (await home.keys(BucketAddress(Scope.INSTANCE, PROMISES, "alice"), None, 10)).keys == []
    instance.close()


@pytest.mark.usefixtures("impatient")
async def test_an_asynchronous_call_waits_without_memory(errand: BoundComponent, home: Store) -> None:
    table = table_of(library(errand), environment({"home": home}))
    await home.enqueue("alice", ask("k"), 10)
    for _ in range(3):
        # However often it is opened, it waits, and other calls are told so.
        with pytest.raises(Suspended, match="waits for promise"):
            await table.run_pending("alice")
        assert not table.holds("alice")
        with pytest.raises(Suspended):
            await call((table, "alice"), errand, "answered")
    waiting = await home.pending("alice", "k")
    assert waiting is not None and (waiting.attempts, waiting.begun) == (1, True)
    await complete(home, await asked(home), COMPLETED + b"yes", HOUR)
    await table.run_pending("alice")
    found = await home.result("alice", "k")
    assert found is not None and json.loads(found.body) == ANSWER
    assert parsed(await call((table, "alice"), errand, "answered")) == 1
    assert await home.get_many(NEAR, ["asked", "answered"]) == [b"1", b"1"]
    table.close()


@pytest.mark.usefixtures("impatient")
async def test_a_call_that_waits_may_be_given_up(errand: BoundComponent, home: Store) -> None:
    table = table_of(library(errand), environment({"home": home}))
    await home.enqueue("alice", ask("k"), 10)
    with pytest.raises(Suspended):
        await table.run_pending("alice")
    assert await home.get_many(NEAR, ["asked"]) == [b"1"]
    # Negative control: one that begins anew, rather than going on, asks again, and that would be seen above.
    await table.control("alice", Verb.RESET)
    with pytest.raises(Suspended):
        await table.run_pending("alice")
    assert await home.get_many(NEAR, ["asked"]) == [b"2"]
    await table.control("alice", Verb.SKIP)
    assert parsed(await call((table, "alice"), errand, "answered")) == 0
    table.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("mode", list(CommitMode))
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation(errand: BoundComponent, mode: CommitMode, applied: bool) -> None:
    """Of the host that runs the calls, and of the one that completes their promises."""
    code = library(errand)
    operations, boundaries = 0, set()
    while True:
        operations += 1
        stores: dict[str, Store] = {"home": MemoryStore(MemoryWorld(), WORKER)}
        for number in range(2):
            await stores["home"].enqueue("alice", ask(f"k{number}"), 10)
        fuse = Fuse(operations, applied=applied)
        crashes = await _play(code, stores, fuse, mode)
        where = f"crash at operation {operations} ({fuse.burnt})"
        assert crashes == (fuse.burnt is not None), where
        for number in range(2):
            found = await stores["home"].result("alice", f"k{number}")
            assert found is not None and json.loads(found.body) == ANSWER, where
        assert await stores["home"].get_many(NEAR, ["asked", "answered"]) == [b"2", b"2"], where
        table = table_of(code, environment(stores, commit=mode))
        assert parsed(await call((table, "alice"), errand, "answered")) == 2, where
        table.close()
        if fuse.burnt is None:
            break
        boundaries.add(fuse.burnt)
    code.close()
    assert boundaries >= {"claim", "take", "commit", "apply_foreign", "get_many"}


async def _play(code: ComponentLibrary, stores: Mapping[str, Store], fuse: Fuse, mode: CommitMode) -> bool:
    """Until both calls have ended; whether there was a crash."""
    home, seen, crashed = stores["home"], all_crashing(stores, fuse), False
    table = table_of(code, environment(seen, commit=mode))
    while (due := await home.due(10)).instances:
        try:
            await table.run_pending(due.instances[0])
        except Suspended as waits:
            assert isinstance(waits.until, str)
            try:
                done = await complete(seen["home"], waits.until, COMPLETED + b"yes", HOUR)
            except Crash:
                # Whoever completes it sends the same again.
                crashed, seen = True, dict(stores)
                done = await complete(home, waits.until, COMPLETED + b"yes", HOUR)
            assert done is Completion.DONE
        except Crash:
            crashed, seen = True, dict(stores)
            table.close()
            table = table_of(code, environment(stores, commit=mode))
    table.close()
    return crashed


def test_no_guest_opens_the_bucket_of_promises() -> None:
    catalog = BucketCatalog((), home="home", undeclared=True)
    catalog.find("promises")
    with pytest.raises(NoSuchBucket):
        catalog.find(PROMISES)
