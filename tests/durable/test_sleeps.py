"""A long sleep is a gate: what came before is durable, and a crash during it does not begin it again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.calls import CallPayload, encode
from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.inbox import NewCall
from perdure.durable.instance import DurableInstance
from perdure.durable.journal import call_fingerprint
from perdure.durable.settings import CommitMode, UpdatePolicy
from perdure.durable.store import Store
from perdure.errors import Fenced, Quarantined, Suspended
from perdure.host.instances import InstanceTable
from perdure.providers.memory import MemoryStore, MemoryWorld
from perdure.wasi import polling
from support.crashing import Crash, Fuse, all_crashing
from support.engine import WORKER, call, deadline, environment, library

NEAR = BucketAddress(Scope.WORKER, "near")


async def test_a_crash_during_a_sleep(ledger: BoundComponent, home: Store) -> None:
    code, settings = library(ledger), environment({"home": home})
    program = [{"add": ["near", "n", 1]}, {"put": ["near", "k", "QUJD"]}, {"sleep": 4000}, {"remember": 1}]
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    begun = time.monotonic()
    running = asyncio.create_task(call(instance, ledger, "run", program, key="first"))
    while await home.get_many(NEAR, ["k"]) != [b"ABC"]:
        await asyncio.sleep(0.01)
    assert time.monotonic() - begun < 4, "the write was durable before the sleep was over"
    running.cancel()
    await asyncio.wait([running])
    instance.close()
    await asyncio.sleep(3.0)
    again = await DurableInstance.open("alice", code, settings, deadline=deadline())
    # The sleep ends when it would have ended, not a whole sleep after the crash.
    assert 4 <= time.monotonic() - begun < 7
    answer = json.loads((await call(again, ledger, "run", program, key="first")).body)
    assert answer == [{"number": 1}, "nothing", "nothing", {"number": 1}]
    assert await home.get_many(NEAR, ["n"]) == [b"1"]
    again.close()
    code.close()


async def test_a_short_sleep_is_none(ledger: BoundComponent, home: Store) -> None:
    code, settings = library(ledger), environment({"home": home})
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    await call(instance, ledger, "run", [{"put": ["near", "k", "QUJD"]}, {"sleep": 20}])
    assert instance.sequence == 1
    await call(instance, ledger, "run", [{"put": ["near", "k", "QUJD"]}, {"sleep": 150}])
    assert instance.sequence == 3
    instance.close()
    code.close()


class Clock:
    """Nanoseconds since 1970, as a test wants them."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def reach(self, instant_ms: int) -> None:
        self.now = max(self.now, instant_ms * 1_000_000)


HOUR = 3_600_000
SLEEPY = [{"add": ["near", "before", 1]}, {"sleep": HOUR}, {"add": ["near", "after", 1]}, {"remember": 1}]
ANSWER = [{"number": 1}, "nothing", {"number": 1}, {"number": 1}]


def sleepy(key: str = "k") -> NewCall:
    function, arguments = "perdure:ledger/program.run", json.dumps([SLEEPY]).encode()
    return NewCall(key, call_fingerprint(function, arguments), encode(CallPayload(function, arguments, 0)), None)


def table_of(code: ComponentLibrary, stores: Mapping[str, Store], clock: Clock, mode: CommitMode) -> InstanceTable:
    return InstanceTable(code, environment(stores, commit=mode, wall_ns=clock), max_in_memory=10, max_queued=10)


async def test_an_asynchronous_call_sleeps_without_memory(ledger: BoundComponent, home: Store) -> None:
    clock, code = Clock(), library(ledger)
    table = table_of(code, {"home": home}, clock, CommitMode.INVOCATION)
    await home.enqueue("alice", sleepy(), 10)
    ends = set()
    for _ in range(3):
        # However often it is opened, by this host or another one, it sleeps until the same instant.
        with pytest.raises(Suspended, match="waits for 2023-11-14T23:13:20") as waits:
            await table.run_pending("alice")
        ends.add(waits.value.until)
        assert not table.holds("alice")
        with pytest.raises(Suspended):
            await call((table, "alice"), ledger, "memory")
        table.close()
        table = table_of(code, {"home": home}, clock, CommitMode.INVOCATION)
        clock.now += 600 * 1_000_000_000
    (end,) = ends
    assert isinstance(end, int)
    waiting = await home.pending("alice", "k")
    assert waiting is not None and (waiting.attempts, waiting.begun) == (1, True)
    assert await home.get_many(NEAR, ["before", "after"]) == [b"1", None]
    clock.reach(end)
    await table.run_pending("alice")
    found = await home.result("alice", "k")
    assert found is not None and json.loads(found.body) == ANSWER
    assert await home.get_many(NEAR, ["before", "after"]) == [b"1", b"1"]
    table.close()
    code.close()


async def test_a_call_that_sleeps_may_be_given_up(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    table = table_of(code, {"home": home}, Clock(), CommitMode.INVOCATION)
    await home.enqueue("alice", sleepy(), 10)
    with pytest.raises(Suspended):
        await table.run_pending("alice")
    # Negative control: one that begins anew, rather than going on, adds again, and that would be seen above.
    await table.control("alice", Verb.RESET)
    with pytest.raises(Suspended):
        await table.run_pending("alice")
    assert await home.get_many(NEAR, ["before"]) == [b"2"]
    await table.control("alice", Verb.SKIP)
    await call((table, "alice"), ledger, "memory")
    assert await home.get_many(NEAR, ["before", "after"]) == [b"2", None]
    table.close()
    code.close()


async def test_a_synchronous_call_sleeps_in_memory(
    ledger: BoundComponent, home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "LEAVES_NS", polling.LONG_NS)
    code, settings = library(ledger), environment({"home": home})
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    for key in (None, "k"):
        await call(instance, ledger, "run", [{"sleep": 150}], key=key)
    assert instance.usable
    instance.close()
    code.close()


@pytest.mark.parametrize("mode", list(CommitMode))
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation_around_a_sleep(
    ledger: BoundComponent, mode: CommitMode, applied: bool
) -> None:
    code = library(ledger)
    operations, boundaries = 0, set()
    while True:
        operations += 1
        stores: dict[str, Store] = {"home": MemoryStore(MemoryWorld(), WORKER)}
        fuse = Fuse(operations, applied=applied)
        crashes = await _play(code, stores, fuse, mode)
        where = f"crash at operation {operations} ({fuse.burnt})"
        assert crashes == (fuse.burnt is not None), where
        found = await stores["home"].result("alice", "k")
        assert found is not None and json.loads(found.body) == ANSWER, where
        assert await stores["home"].get_many(NEAR, ["before", "after"]) == [b"1", b"1"], where
        if fuse.burnt is None:
            break
        boundaries.add(fuse.burnt)
    code.close()
    assert boundaries >= {"claim", "take", "commit", "apply_foreign"}


async def _play(code: ComponentLibrary, stores: Mapping[str, Store], fuse: Fuse, mode: CommitMode) -> bool:
    """Until the call has ended; whether there was a crash. Each time that it sleeps it is opened too early once."""
    home, seen, clock, crashed, early = stores["home"], all_crashing(stores, fuse), Clock(), False, True
    await home.enqueue("alice", sleepy(), 10)
    table = table_of(code, seen, clock, mode)
    while (due := await home.due(10)).instances:
        try:
            await table.run_pending(due.instances[0])
        except Suspended as waits:
            assert isinstance(waits.until, int)
            if not early:
                clock.reach(waits.until)
            early = False
        except Crash:
            crashed = True
            table.close()
            table = table_of(code, stores, clock, mode)
    table.close()
    return crashed


def updated(home: Store, clock: Clock, policy: UpdatePolicy, *components: BoundComponent) -> InstanceTable:
    """A host of the first component, to which the others are to be had."""
    settings = environment({"home": home}, update=policy, wall_ns=clock)
    return InstanceTable(library(*components), settings, max_in_memory=10, max_queued=10)


async def asleep(table: InstanceTable) -> int:
    """Run the call that waits until it sleeps: until which instant, in milliseconds since 1970."""
    with pytest.raises(Suspended) as waits:
        await table.run_pending("alice")
    assert isinstance(waits.value.until, int)
    return waits.value.until


AFTERWARDS = {
    UpdatePolicy.RESTART: (2, [0, 0]),
    UpdatePolicy.PIN: (1, [1, 1]),
    UpdatePolicy.MIGRATE: (2, [1, 1]),
}


@pytest.mark.parametrize("policy", list(UpdatePolicy))
async def test_a_component_that_changes_while_a_call_sleeps(
    ledger: BoundComponent, ledger_next: BoundComponent, home: Store, policy: UpdatePolicy
) -> None:
    """The call ends on the one it began on, where that is to be had; then the instance is updated."""
    clock = Clock()
    table = updated(home, clock, policy, ledger)
    await home.enqueue("alice", sleepy(), 10)
    until = await asleep(table)
    table.close()
    table = updated(home, clock, policy, ledger_next, ledger)
    assert await asleep(table) == until
    clock.reach(until)
    await table.run_pending("alice")
    found = await home.result("alice", "k")
    assert found is not None and json.loads(found.body) == ANSWER
    assert await home.get_many(NEAR, ["before", "after"]) == [b"1", b"1"]
    table.close()
    table = updated(home, clock, policy, ledger_next, ledger)
    version = json.loads((await call((table, "alice"), ledger_next, "version")).body)
    memory = json.loads((await call((table, "alice"), ledger_next, "memory")).body)
    assert (version, memory[:2]) == AFTERWARDS[policy]
    table.close()


@pytest.mark.parametrize("policy", list(UpdatePolicy))
async def test_a_component_that_is_gone_while_a_call_sleeps(
    ledger: BoundComponent, ledger_next: BoundComponent, home: Store, policy: UpdatePolicy
) -> None:
    """`Restart` keeps none, so the call begins anew, with what it did before the sleep; the others wait for it."""
    clock = Clock()
    table = updated(home, clock, policy, ledger)
    await home.enqueue("alice", sleepy(), 10)
    until = await asleep(table)
    table.close()
    table = updated(home, clock, policy, ledger_next)
    if policy is UpdatePolicy.RESTART:
        clock.now += 1_000_000_000
        anew = await asleep(table)
        assert anew > until
        clock.reach(anew)
        await table.run_pending("alice")
        assert await home.get_many(NEAR, ["before", "after"]) == [b"2", b"1"]
    else:
        with pytest.raises(Quarantined, match="not available any more"):
            await table.run_pending("alice")
        table.close()
        table = updated(home, clock, policy, ledger_next, ledger)
        clock.reach(until)
        await table.run_pending("alice")
        assert await home.get_many(NEAR, ["before", "after"]) == [b"1", b"1"]
    assert await home.result("alice", "k") is not None
    table.close()


@pytest.mark.parametrize("slow", ["former", "present"])
async def test_two_hosts_that_both_go_on(ledger: BoundComponent, home: Store, slow: str) -> None:
    """Each has parked the instance, and both come back at its instant: one of them is fenced, or finds it done."""
    clock, codes = Clock(), [library(ledger), library(ledger)]
    tables = [table_of(code, {"home": home}, clock, CommitMode.INVOCATION) for code in codes]
    await home.enqueue("alice", sleepy(), 10)
    until = set()
    for table in tables:
        with pytest.raises(Suspended) as waits:
            await table.run_pending("alice")
        until.add(waits.value.until)
    (instant,) = until
    assert isinstance(instant, int)
    clock.reach(instant)
    order = tables if slow == "present" else tables[::-1]
    ended = await asyncio.gather(*(table.run_pending("alice") for table in order), return_exceptions=True)
    assert all(isinstance(one, Fenced) or one is None or one == 0 for one in ended), ended
    assert (await home.due(10)).instances == []
    assert await home.get_many(NEAR, ["before", "after"]) == [b"1", b"1"]
    found = await home.result("alice", "k")
    assert found is not None and json.loads(found.body) == ANSWER
    for table, code in zip(tables, codes, strict=True):
        table.close()
        code.close()


async def test_an_instance_that_is_deleted_while_its_call_sleeps(ledger: BoundComponent, home: Store) -> None:
    clock, code = Clock(), library(ledger)
    table = table_of(code, {"home": home}, clock, CommitMode.INVOCATION)
    await home.enqueue("alice", sleepy(), 10)
    until = await asleep(table)
    assert (await home.due(10)).instances == ["alice"], "so that whoever comes finds it"
    assert await home.delete_instance("alice")
    assert (await home.due(10)).instances == []
    clock.reach(until)
    # Whoever comes back for it finds nothing to do, and does nothing.
    await table.run_pending("alice")
    assert await home.get_many(NEAR, ["before", "after"]) == [b"1", None]
    assert await home.result("alice", "k") is None
    table.close()
    code.close()
