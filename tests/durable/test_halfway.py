"""Calls of which something is durable when they fail, or when their instance is taken from them: never done again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from typing_extensions import override

from perdure.component.component import BoundComponent
from perdure.durable import commits
from perdure.durable.control import Verb
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.instance import DurableInstance, Invocation, InvocationResult
from perdure.durable.policy import BucketPolicy
from perdure.durable.records import Commit, Committed, ForeignApply
from perdure.durable.store import Store
from perdure.errors import (
    AsyncCallFailed,
    Fenced,
    GuestTrapped,
    IdempotencyConflict,
    Interrupted,
    InvocationTimeout,
    Overloaded,
    Overtaken,
    PerdureError,
    ProviderUnavailable,
)
from perdure.host.instances import InstanceTable
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.engine import WORKER, call, deadline, environment, invocation, library

NEAR = BucketAddress(Scope.WORKER, "near")
ADD = {"add": ["near", "n", 1]}


async def counted(home: Store) -> int:
    return int((await home.get_many(NEAR, ["n"]))[0] or b"0")


@asynccontextmanager
async def table_of(bound: BoundComponent, home: Store, host: str = "one") -> AsyncIterator[InstanceTable]:
    code = library(bound)
    table = InstanceTable(code, environment({"home": home}, host=host), max_in_memory=10, max_queued=10)
    yield table
    table.close()
    code.close()


async def run(table: InstanceTable, bound: BoundComponent, *steps: object, key: str | None = None) -> InvocationResult:
    return await call((table, "alice"), bound, "run", list(steps), key=key)


async def hasty(table: InstanceTable, bound: BoundComponent, *steps: object, key: str | None) -> InvocationResult:
    """Has a second only."""
    made = invocation(bound, "run", list(steps))
    return await table.invoke("alice", Invocation(made.function, made.arguments, key, deadline(1.0)))


async def test_a_trap_behind_a_gate_is_the_calls_result(ledger: BoundComponent, home: Store) -> None:
    async with table_of(ledger, home) as table:
        with pytest.raises(GuestTrapped) as trap:
            await run(table, ledger, ADD, "trap", key="k")
        assert trap.value.parts == 1
        for _ in range(2):
            with pytest.raises(AsyncCallFailed, match="trapped") as again:
                await run(table, ledger, ADD, "trap", key="k")
            assert again.value.cause == "guest-trapped"
        assert await counted(home) == 1
        with pytest.raises(IdempotencyConflict):
            await run(table, ledger, ADD, key="k")
        # The controls: without a key each is a call of its own, and where nothing is durable the key is free.
        for _ in range(2):
            with pytest.raises(GuestTrapped):
                await run(table, ledger, ADD, "trap")
        assert await counted(home) == 3
        with pytest.raises(GuestTrapped) as trap:
            await run(table, ledger, "trap", key="other")
        assert trap.value.parts == 0
        assert (await run(table, ledger, ADD, key="other")).body == b'[{"number":4}]'


async def test_a_timeout_behind_a_gate_is_told_with_what_is_durable(ledger: BoundComponent, home: Store) -> None:
    async with table_of(ledger, home) as table:
        with pytest.raises(InvocationTimeout) as timeout:
            await hasty(table, ledger, ADD, "spin", key="k")
        assert (timeout.value.parts, timeout.value.retryable) == (1, False)
        with pytest.raises(AsyncCallFailed) as again:
            await hasty(table, ledger, ADD, "spin", key="k")
        assert again.value.cause == "timeout"
        assert await counted(home) == 1
        # The control: of this one nothing is durable.
        with pytest.raises(InvocationTimeout) as timeout:
            await hasty(table, ledger, "spin", key="other")
        assert (timeout.value.parts, timeout.value.retryable) == (0, True)


async def test_whoever_goes_on_with_it_keeps_the_failure(ledger: BoundComponent, home: Store) -> None:
    """The host dies between the gate and the trap."""
    async with table_of(ledger, home) as table:
        dying = asyncio.ensure_future(run(table, ledger, ADD, {"sleep": 60_000}, "trap", key="k"))
        while (info := await home.instance("alice")) is None or info.sequence < 2:
            await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.wait({dying})
    code = library(ledger)
    # What remains of the sleep is not waited for.
    late = environment({"home": home}, host="two", wall_ns=lambda: 1 << 62, monotonic_ns=lambda: 1 << 62)
    with pytest.raises(Fenced, match="could not be finished"):
        await DurableInstance.open("alice", code, late, deadline=deadline())
    code.close()
    async with table_of(ledger, home, "two") as table:
        with pytest.raises(AsyncCallFailed):
            await run(table, ledger, ADD, {"sleep": 60_000}, "trap", key="k")
    assert await counted(home) == 1


@pytest.mark.parametrize("how", ["skip", "reset", "restart"])
async def test_a_call_that_is_given_up_is_not_carried_out_again(
    ledger: BoundComponent, ledger_next: BoundComponent, home: Store, how: str
) -> None:
    steps = (ADD, {"sleep": 60_000})
    async with table_of(ledger, home) as table:
        dying = asyncio.ensure_future(run(table, ledger, *steps, key="k"))
        while (info := await home.instance("alice")) is None or info.sequence < 2:
            await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.wait({dying})
    # A former component is not to be had here.
    bound = ledger_next if how == "restart" else ledger
    async with table_of(bound, home, "two") as table:
        if how != "restart":
            await table.control("alice", Verb(how))
        for _ in range(2):
            with pytest.raises(AsyncCallFailed, match="given up") as again:
                await run(table, bound, *steps, key="k")
            assert again.value.cause == "skipped"
        assert await counted(home) == 1
        # The control: another key is another call.
        assert (await run(table, bound, ADD, key="other")).body == b'[{"number":2}]'


async def test_what_is_gone_on_with_can_be_interrupted(ledger: BoundComponent, home: Store) -> None:
    async with table_of(ledger, home) as table:
        dying = asyncio.ensure_future(run(table, ledger, ADD, "spin"))
        while await home.instance("alice") is None:
            await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.wait({dying})
    async with table_of(ledger, home, "two") as table:
        opening = asyncio.ensure_future(call((table, "alice"), ledger, "memory"))
        await asyncio.sleep(0.1)
        await table.control("alice", Verb.INTERRUPT)
        with pytest.raises(Fenced, match="while it was opened"):
            await opening
        with pytest.raises(Interrupted):
            await call((table, "alice"), ledger, "memory")


class Taken(MemoryStore):
    """Another host claims the instance before, or right after, its commit `at`. `lost`: the reply of which is lost."""

    at = 0
    lost = False

    @override
    async def commit(self, commit: Commit) -> Committed:
        if commit.token.nonce != "other" and commit.sequence == self.at:
            self.at = 0
            if self.lost:
                await super().commit(commit)
            await self.claim(commit.instance, "other", "two")
            if self.lost:
                raise ProviderUnavailable("the connection was lost")
        return await super().commit(commit)


@pytest.mark.parametrize(("at", "lost"), [(2, False), (1, True), (2, True)], ids=["between", "first", "last"])
async def test_a_call_without_a_key_is_not_begun_again(ledger: BoundComponent, at: int, lost: bool) -> None:
    home = Taken(MemoryWorld(), WORKER)
    home.at, home.lost = at, lost
    async with table_of(ledger, home) as table:
        with pytest.raises(Overtaken):
            await run(table, ledger, ADD)
    # The new owner ends what has not ended.
    async with table_of(ledger, home, "two") as table:
        assert json.loads((await call((table, "alice"), ledger, "memory")).body)[1] == 1
    assert await counted(home) == 1


@pytest.mark.parametrize(("at", "lost"), [(2, False), (1, True), (2, True)], ids=["between", "first", "last"])
async def test_a_call_with_a_key_is_asked_for_again(ledger: BoundComponent, at: int, lost: bool) -> None:
    home = Taken(MemoryWorld(), WORKER)
    home.at, home.lost = at, lost
    async with table_of(ledger, home) as table:
        with pytest.raises(Fenced):
            await run(table, ledger, ADD, key="k")
        found = await run(table, ledger, ADD, key="k")
    assert (found.body, found.stored) == (b'[{"number":1}]', True)
    assert await counted(home) == 1


async def test_one_of_which_nothing_is_durable_may_be_begun_again(ledger: BoundComponent) -> None:
    """The control: the host is told so, and does it."""
    home = Taken(MemoryWorld(), WORKER)
    home.at = 1
    async with table_of(ledger, home) as table:
        with pytest.raises(Fenced):
            await run(table, ledger, ADD)
        assert (await run(table, ledger, ADD)).body == b'[{"number":1}]'
    assert await counted(home) == 1


async def test_a_timeout_of_something_else_is_not_taken_for_a_takeover(ledger: BoundComponent, home: Store) -> None:
    def clock() -> int:
        raise TimeoutError("the clock's own")

    code = library(ledger)
    table = InstanceTable(code, environment({"home": home}, wall_ns=clock), max_in_memory=10, max_queued=10)
    with pytest.raises(TimeoutError, match="the clock's own"):
        await run(table, ledger, "tick")
    table.close()
    code.close()


class Silent(MemoryStore):
    """Takes the commit `at`, and is not heard of any more. `says`: what it answers to whoever sends it again."""

    at = 1
    says: PerdureError = ProviderUnavailable("nobody answers")

    @override
    async def commit(self, commit: Commit) -> Committed:
        if commit.sequence != self.at:
            return await super().commit(commit)
        info = await self.instance(commit.instance)
        if info is not None and info.sequence >= self.at:
            raise self.says
        await super().commit(commit)
        raise ProviderUnavailable("the connection was lost")


@pytest.mark.parametrize("key", ["k", None], ids=["key", "no key"])
@pytest.mark.parametrize("says", [ProviderUnavailable("nobody answers"), Overloaded("too much")], ids=["gone", "busy"])
async def test_a_call_of_which_nobody_knows_must_not_be_sent_again_without_a_key(
    ledger: BoundComponent, key: str | None, says: PerdureError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_ATTEMPTS", 2)
    home = Silent(MemoryWorld(), WORKER)
    home.says = says
    async with table_of(ledger, home) as table:
        with pytest.raises(ProviderUnavailable, match="is unknown") as unknown:
            await run(table, ledger, {"put": ["near", "a", "YWJj"]}, key=key)
        assert unknown.value.retryable == (key is not None)
    # The control: where the store has refused it from the first, nothing is done.
    refusing = Refusing(MemoryWorld(), WORKER)
    async with table_of(ledger, refusing) as table:
        with pytest.raises(Overloaded) as refused:
            await run(table, ledger, ADD, key=key)
        assert refused.value.retryable
    assert await counted(refusing) == 0


class Refusing(MemoryStore):
    """Is out of room."""

    @override
    async def commit(self, commit: Commit) -> Committed:
        raise Overloaded("too much")


class Away(MemoryStore):
    """A store of buckets that may not answer."""

    down = True

    @override
    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        if self.down:
            raise ProviderUnavailable("nobody answers")
        return await super().apply_foreign(apply)


@pytest.mark.parametrize("key", ["k", None], ids=["key", "no key"])
@pytest.mark.parametrize("step", ["put", "add"])
async def test_a_call_that_waits_for_another_store_says_whether_it_can_be_sent_again(
    ledger: BoundComponent, home: Store, key: str | None, step: str
) -> None:
    away, code = Away(MemoryWorld(), WORKER), library(ledger)
    settings = environment({"home": home, "away": away}, BucketPolicy("far", "away"))
    table = InstanceTable(code, settings, max_in_memory=10, max_queued=10)
    steps = [ADD, {"put": ["far", "k", "QUJD"]} if step == "put" else {"add": ["far", "k", 1]}]
    with pytest.raises(ProviderUnavailable, match="What this call did so far is durable") as waits:
        await call((table, "alice"), ledger, "run", steps, key=key)
    assert waits.value.retryable == (key is not None)
    assert ("the same Idempotency-Key" if key else "without a key") in waits.value.detail
    away.down = False
    # Whoever asks next, it is carried out, and once.
    assert json.loads((await call((table, "alice"), ledger, "memory")).body)[1] == 1
    if key is not None:
        assert (await call((table, "alice"), ledger, "run", steps, key=key)).stored
    assert await counted(home) == 1
    table.close()
    code.close()
