"""A call that takes its host with it each time somebody goes on with it: bounded, and only that is counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.calls import decode_halt
from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.environment import EngineEnvironment
from perdure.durable.instance import DurableInstance
from perdure.durable.policy import ATTEMPTS, BucketCatalog
from perdure.durable.settings import RetryPolicy
from perdure.durable.store import Store
from perdure.errors import Fenced, Quarantined, Suspended
from perdure.host.instances import InstanceTable
from perdure.keyvalue.bucket import NoSuchBucket
from support.crashing import Crash
from support.engine import call, deadline, environment, library

NEAR = BucketAddress(Scope.WORKER, "near")
THRICE = RetryPolicy(max_attempts=3)
ADD = {"add": ["near", "n", 1]}


class Ending:
    """A store at whose `number`-th commit something happens before it is sent: the process dies, or `error`."""

    def __init__(self, store: Store, number: int, error: BaseException | None = None) -> None:
        self._store = store
        self.left = number
        self._error = error or Crash("commit")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, *args: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise self._error
        return await self._store.commit(*args)


def settings(store: object, retry: RetryPolicy = THRICE) -> EngineEnvironment:
    return environment({"home": cast("Store", store)}, retry=retry)


async def opened(code: ComponentLibrary, store: object, retry: RetryPolicy = THRICE) -> DurableInstance:
    return await DurableInstance.open("alice", code, settings(store, retry), deadline=deadline())


async def begun(code: ComponentLibrary, ledger: BoundComponent, home: Store, key: str | None = "k") -> None:
    """A call of two increments whose host died before the second one."""
    instance = await opened(code, Ending(home, 2))
    with pytest.raises(Crash):
        await call(instance, ledger, "run", [ADD, ADD], key=key)
    assert await home.get_many(NEAR, ["n"]) == [b"1"]


async def counters(home: Store) -> list[bytes | None]:
    address = BucketAddress(Scope.INSTANCE, ATTEMPTS, "alice")
    page = await home.keys(address, None, 10)
    return await home.get_many(address, page.keys)


@pytest.fixture
def code(ledger: BoundComponent) -> Any:
    made = library(ledger)
    yield made
    made.close()


@pytest.mark.parametrize("key", ["k", None])
async def test_it_is_out_of_attempts_some_day(
    code: ComponentLibrary, ledger: BoundComponent, home: Store, key: str | None
) -> None:
    await begun(code, ledger, home, key)
    for number in range(1, 4):
        with pytest.raises(Crash):
            await opened(code, Ending(home, 1))
        assert await counters(home) == [str(number).encode()]
    said = "the call 'k' has not ended" if key else "a call of perdure:ledger/program.run without a key"
    with pytest.raises(Quarantined, match=f"{said}.* 3 attempts"):
        await opened(code, Ending(home, 1))
    info = await home.instance("alice")
    assert info is not None and info.halt is not None and decode_halt(info.halt).key == key
    assert (await home.due(10)).instances == [], "a halted instance has nothing to do"
    with pytest.raises(Quarantined):
        await opened(code, home)
    # Negative control: under another bound the next attempt takes its host as well.
    await home.halt("alice", (await home.claim("alice", "nonce", "one")).token, None)
    with pytest.raises(Crash):
        await opened(code, Ending(home, 1), RetryPolicy(max_attempts=100))
    assert await home.get_many(NEAR, ["n"]) == [b"1"]


@pytest.mark.parametrize("verb", [Verb.RESUME, Verb.SKIP, Verb.RESET])
async def test_an_operator_decides(code: ComponentLibrary, ledger: BoundComponent, home: Store, verb: Verb) -> None:
    await begun(code, ledger, home)
    for _ in range(3):
        with pytest.raises(Crash):
            await opened(code, Ending(home, 1))
    table = InstanceTable(code, settings(home), max_in_memory=10, max_queued=10)
    with pytest.raises(Quarantined):
        await table.run_pending("alice")
    await table.control("alice", verb)
    memory = json.loads((await call((table, "alice"), ledger, "memory")).body)
    if verb is Verb.RESUME:
        # It is tried again, and whatever it was is over.
        assert memory[1] == 1 and await home.get_many(NEAR, ["n"]) == [b"2"]
        assert (await call((table, "alice"), ledger, "run", [ADD, ADD], key="k")).stored
        assert await counters(home) == []
    else:
        assert memory[1] == 0 and await home.get_many(NEAR, ["n"]) == [b"1"]
    table.close()


async def test_resumed_it_has_all_its_attempts_again(
    code: ComponentLibrary, ledger: BoundComponent, home: Store
) -> None:
    await begun(code, ledger, home)
    table = InstanceTable(code, settings(home), max_in_memory=10, max_queued=10)
    for _ in range(2):
        for _ in range(3):
            with pytest.raises(Crash):
                await opened(code, Ending(home, 1))
        with pytest.raises(Quarantined, match="3 attempts"):
            await table.run_pending("alice")
        await table.control("alice", Verb.RESUME)
    table.close()


@pytest.mark.parametrize(
    "error", [Fenced("another host has it"), Suspended("it waits", until="p"), asyncio.CancelledError()],
    ids=["fenced", "waits", "cancelled"],
)  # fmt: skip
async def test_an_attempt_whose_host_lives_on_does_not_count(
    code: ComponentLibrary, ledger: BoundComponent, home: Store, error: BaseException
) -> None:
    await begun(code, ledger, home)
    for _ in range(5):
        with pytest.raises((Fenced, Suspended, asyncio.CancelledError)):
            await opened(code, Ending(home, 1, error))
        assert await counters(home) == []
    (await opened(code, home)).close()
    assert await home.get_many(NEAR, ["n"]) == [b"2"]


async def test_a_call_that_gets_further_is_counted_anew(
    code: ComponentLibrary, ledger: BoundComponent, home: Store
) -> None:
    instance = await opened(code, Ending(home, 2))
    with pytest.raises(Crash):
        await call(instance, ledger, "run", [ADD] * 8, key="k")
    for number in range(2, 8):
        # One more increment each time, and then the end of the host: six ends, where three in one place are too many.
        with pytest.raises(Crash):
            await opened(code, Ending(home, 2))
        assert await home.get_many(NEAR, ["n"]) == [str(number).encode()]
    (await opened(code, home)).close()
    assert await home.get_many(NEAR, ["n"]) == [b"8"]


async def test_calls_that_ended_cost_nothing(code: ComponentLibrary, ledger: BoundComponent, home: Store) -> None:
    class Counting:
        applied = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(home, name)

        async def apply_foreign(self, *args: Any) -> Any:
            self.applied += 1
            return await home.apply_foreign(*args)

    counting = Counting()
    for _ in range(3):
        instance = await opened(code, counting)
        await call(instance, ledger, "run", [ADD])
        instance.close()
    assert counting.applied == 0


def test_no_guest_opens_the_bucket_of_counters() -> None:
    for undeclared in (True, False):
        with pytest.raises(NoSuchBucket):
            BucketCatalog((), home="home", undeclared=undeclared).find(ATTEMPTS)
