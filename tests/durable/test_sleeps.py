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
from perdure.durable.settings import CommitMode
from perdure.durable.store import Store
from perdure.errors import Suspended
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
