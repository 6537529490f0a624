"""Asynchronous calls: run once though hosts die, retried under the policy, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import json

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.calls import CallPayload, decode_failure, decode_halt, encode, failure_of
from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.environment import EngineEnvironment
from perdure.durable.inbox import Accepted, Cancelled, NewCall
from perdure.durable.journal import call_fingerprint
from perdure.durable.policy import BucketPolicy
from perdure.durable.settings import CommitMode, Failure, RetryPolicy
from perdure.durable.store import Store
from perdure.errors import AsyncCallFailed, BadRequest, Fenced, IdempotencyConflict, Interrupted, Quarantined
from perdure.host.instances import InstanceTable
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.crashing import Crash, Fuse, all_crashing
from support.engine import WORKER, call, environment, library

RUN = "perdure:ledger/program.run"
QUICK = RetryPolicy(max_attempts=3, initial_ms=400, max_ms=400)
NEAR = BucketAddress(Scope.WORKER, "near")


def table_of(code: ComponentLibrary, settings: EngineEnvironment, timeout: float = 30) -> InstanceTable:
    return InstanceTable(code, settings, max_in_memory=10, max_queued=10, timeout=timeout)


def new_call(key: str, *steps: object, due_ms: int | None = None, function: str = RUN) -> NewCall:
    arguments = json.dumps([list(steps)]).encode()
    payload = encode(CallPayload(function, arguments, 0))
    return NewCall(key, call_fingerprint(function, arguments), payload, due_ms)


async def settle(table: InstanceTable, store: Store) -> None:
    """Run what is due until nothing waits any more."""
    for _ in range(1000):
        due = await store.due(10)
        for name in due.instances:
            await table.run_pending(name)
        if not due.instances and due.next_ms is None:
            return
        await asyncio.sleep(0.002)
    raise AssertionError("calls still wait")


async def test_a_former_owner_claims_again_what_it_finds_in_the_inbox(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    first = table_of(code, environment({"home": home}))
    second = table_of(code, environment({"home": home}, host="two"))
    await call((first, "alice"), ledger, "version")
    await call((second, "alice"), ledger, "version")
    await home.enqueue("alice", new_call("k", {"add": ["near", "n", 1]}), 10)
    with pytest.raises(Fenced):
        await first.run_pending("alice")
    assert not first.holds("alice")
    await first.run_pending("alice")
    assert await home.get_many(NEAR, ["n"]) == [b"1"]
    for table in (first, second):
        table.close()
    code.close()


async def test_accepted_calls_run_in_order_and_once(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    table = table_of(code, environment({"home": home}))
    for number in range(5):
        step = {"add": ["near", "n", 1 << number]}
        assert await home.enqueue("alice", new_call(f"k{number}", step), 10) is Accepted.ACCEPTED
        assert await home.enqueue("alice", new_call(f"k{number}", step), 10) is Accepted.PENDING
    await settle(table, home)
    for number in range(5):
        found = await home.result("alice", f"k{number}")
        assert found is not None and json.loads(found.body) == [{"number": (2 << number) - 1}]
    assert await home.inbox("alice", 10) == []
    table.close()
    code.close()


@pytest.mark.parametrize("mode", list(CommitMode))
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation_of_a_host_that_runs_an_inbox(
    ledger: BoundComponent,
    mode: CommitMode,
    applied: bool,
) -> None:
    policy = BucketPolicy("far", "away")
    code = library(ledger)
    operations, boundaries = 0, set()
    while True:
        operations += 1
        stores: dict[str, Store] = {name: MemoryStore(MemoryWorld(), WORKER) for name in ("home", "away")}
        for number in range(3):
            steps: list[object] = [{"add": ["near", "n", 1]}, {"remember": 1}, {"add": ["far", "n", 10]}, "tick"]
            await stores["home"].enqueue("alice", new_call(f"k{number}", *steps), 10)
        fuse = Fuse(operations, applied=applied)
        table = table_of(code, environment(all_crashing(stores, fuse), policy, commit=mode, retry=QUICK))
        try:
            await settle(table, stores["home"])
        except Crash:
            boundaries.add(fuse.burnt)
        table.close()
        table = table_of(code, environment(stores, policy, commit=mode, retry=QUICK))
        await settle(table, stores["home"])
        where = f"crash at operation {operations} ({fuse.burnt})"
        for number in range(3):
            found = await stores["home"].result("alice", f"k{number}")
            assert found is not None, where
            expected = [{"number": number + 1}, {"number": number + 1}, {"number": 10 * (number + 1)}, "nothing"]
            assert json.loads(found.body) == expected, where
        table.close()
        if fuse.burnt is None:
            break
    code.close()
    assert boundaries >= {"claim", "take", "commit", "apply_foreign", "applied"}


async def test_a_failing_call_is_tried_again_and_then_quarantines(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    table = table_of(code, environment({"home": home}, retry=QUICK))
    await home.enqueue("alice", new_call("bad", {"put": ["near", "k", "QUJD"]}, "trap"), 10)
    await home.enqueue("alice", new_call("good", {"remember": 1}), 10)
    await table.run_pending("alice")
    waiting = await home.pending("alice", "bad")
    assert waiting is not None and waiting.attempts == 1
    failure = decode_failure(waiting.failure)
    assert failure is not None and failure.code == "guest-trapped"
    with pytest.raises(Quarantined, match="'bad' failed in 3 attempts"):
        await settle(table, home)
    info = await home.instance("alice")
    assert info is not None and info.halt is not None and decode_halt(info.halt).key == "bad"
    assert (await home.due(10)).instances == [], "a halted instance has nothing to do"
    with pytest.raises(Quarantined):
        await call((table, "alice"), ledger, "memory")
    # Resumed, it is tried once more than the policy says, in vain; skipped, the others go on.
    await table.control("alice", Verb.RESUME)
    with pytest.raises(Quarantined):
        await settle(table, home)
    await table.control("alice", Verb.SKIP)
    await settle(table, home)
    found = await home.result("alice", "bad")
    assert found is not None
    assert failure_of(found.body) is not None
    with pytest.raises(AsyncCallFailed, match="given up"):
        await call((table, "alice"), ledger, "run", [{"put": ["near", "k", "QUJD"]}, "trap"], key="bad")
    assert await home.get_many(NEAR, ["k"]) == [None], "nothing of a trapped call stays"
    assert json.loads((await call((table, "alice"), ledger, "memory")).body)[:2] == [1, 1]
    with pytest.raises(BadRequest):
        await table.control("alice", Verb.SKIP)
    table.close()
    code.close()


async def test_a_resumed_call_is_tried_once_more(ledger: BoundComponent, home: Store) -> None:
    """Though it has no attempt left; and once is once."""
    code = library(ledger)
    table = table_of(code, environment({"home": home}, retry=RetryPolicy(max_attempts=2, initial_ms=1, max_ms=1)))
    # The increment is a gate: what each attempt did so far stays, and counts them.
    await home.enqueue("alice", new_call("bad", {"add": ["near", "n", 1]}, "trap"), 10)
    for tried in (b"2", b"3", b"4"):
        with pytest.raises(Quarantined, match="guest-trapped"):
            await settle(table, home)
        assert await home.get_many(NEAR, ["n"]) == [tried]
        await table.control("alice", Verb.RESUME)
    # Without somebody who resumes it, an attempt beyond is not made.
    fuse = Fuse(2, applied=True)
    dying = table_of(code, environment(all_crashing({"home": home}, fuse), retry=RetryPolicy(max_attempts=2)))
    with pytest.raises(Crash):
        await dying.run_pending("alice")
    assert fuse.burnt == "take"
    with pytest.raises(Quarantined):
        await settle(table, home)
    assert await home.get_many(NEAR, ["n"]) == [b"5"]
    await home.halt("alice", (await home.claim("alice", "nonce", "one")).token, None)
    with pytest.raises(Quarantined, match="the host ended during its last attempt"):
        await settle(table, home)
    assert await home.get_many(NEAR, ["n"]) == [b"5"]
    for each in (table, dying):
        each.close()
    code.close()


async def test_a_policy_names_what_is_tried_again(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    policy = RetryPolicy(max_attempts=3, initial_ms=5000, failures=frozenset({Failure.TIMEOUT}))
    table = table_of(code, environment({"home": home}, retry=policy), timeout=0.3)
    await home.enqueue("alice", new_call("slow", "spin"), 10)
    await table.run_pending("alice")
    assert await home.pending("alice", "slow") is not None
    await home.cancel("alice", "slow")
    await home.enqueue("bob", new_call("bad", "trap"), 10)
    with pytest.raises(Quarantined, match="in 1 attempts"):
        await table.run_pending("bob")
    table.close()
    code.close()


async def test_a_cancelled_call_leaves_nothing_even_while_it_runs(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    table = table_of(code, environment({"home": home}))
    await home.enqueue("alice", new_call("k", {"work": 20_000}, {"put": ["near", "k", "QUJD"]}), 10)
    running = asyncio.create_task(table.run_pending("alice"))
    while not table.busy("alice"):
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert await home.cancel("alice", "k") is Cancelled.CANCELLED
    await running
    assert await home.result("alice", "k") is None
    assert await home.get_many(NEAR, ["k"]) == [None]
    assert json.loads((await call((table, "alice"), ledger, "memory")).body)[:2] == [0, 0]
    table.close()
    code.close()


async def test_a_call_that_has_begun_is_not_cancelled(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    fuse = Fuse(4, applied=True)
    table = table_of(code, environment(all_crashing({"home": home}, fuse), commit=CommitMode.EFFECT))
    await home.enqueue("alice", new_call("k", {"put": ["near", "k", "QUJD"]}, {"remember": 1}), 10)
    with pytest.raises(Crash):
        await table.run_pending("alice")
    assert fuse.burnt == "commit"
    table.close()
    assert await home.cancel("alice", "k") in (Cancelled.BEGUN, Cancelled.FINISHED)
    code.close()


async def test_a_key_is_bound_to_one_call(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    table = table_of(code, environment({"home": home}))
    await home.enqueue("alice", new_call("k", {"remember": 1}, due_ms=1 << 42), 10)
    assert await home.enqueue("alice", new_call("k", {"remember": 2}), 10) is Accepted.CONFLICT
    with pytest.raises(IdempotencyConflict):
        await call((table, "alice"), ledger, "run", [{"remember": 2}], key="k")
    # The same call with its key does what waits, and it waits no more.
    await call((table, "alice"), ledger, "run", [{"remember": 1}], key="k")
    assert await home.pending("alice", "k") is None
    table.close()
    code.close()


async def test_interrupt_stops_what_runs_until_it_is_resumed(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    table = table_of(code, environment({"home": home}))
    await call((table, "alice"), ledger, "run", [{"remember": 1}])
    running = asyncio.create_task(call((table, "alice"), ledger, "run", [{"remember": 5}, "spin"]))
    await asyncio.sleep(0.02)
    await table.control("alice", Verb.INTERRUPT)
    with pytest.raises(Fenced, match="taken from this host"):
        await running
    with pytest.raises(Interrupted):
        await call((table, "alice"), ledger, "memory")
    await table.control("alice", Verb.RESUME)
    assert json.loads((await call((table, "alice"), ledger, "memory")).body)[:2] == [1, 1]
    table.close()
    code.close()


async def test_reset_gives_fresh_memory_and_keeps_the_rest(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    table = table_of(code, environment({"home": home}))
    await call((table, "alice"), ledger, "run", [{"remember": 1}, {"put": ["near", "k", "QUJD"]}], key="first")
    await home.enqueue("alice", new_call("later", {"remember": 7}), 10)
    await table.control("alice", Verb.RESET)
    assert await home.get_many(NEAR, ["k"]) == [b"ABC"]
    repeated = [{"remember": 1}, {"put": ["near", "k", "QUJD"]}]
    assert (await call((table, "alice"), ledger, "run", repeated, key="first")).stored
    await settle(table, home)
    assert json.loads((await call((table, "alice"), ledger, "memory")).body)[:2] == [7, 1]
    table.close()
    code.close()
