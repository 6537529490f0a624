"""Calls from instance to instance: carried out once wherever either side dies, and never in a circle."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.caller import InstanceCall
from perdure.durable.calling import MAX_CHAIN, digest_of
from perdure.durable.components import ComponentLibrary
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.instance import Invocation
from perdure.durable.policy import BucketPolicy
from perdure.durable.settings import CommitMode
from perdure.durable.store import Store
from perdure.errors import NoSuchFunction, ProviderUnavailable
from perdure.host.instances import InstanceTable
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.crashing import Crash, Fuse, all_crashing
from support.engine import WORKER, call, environment, invocation, library

NEAR = BucketAddress(Scope.WORKER, "near")
ADD = ("bob", "add", '["near", 1]')


class Local:
    """Makes calls through one table. `keyed` False: the mutant that does not say which call it is. `away`: how often
    nobody answers first."""

    def __init__(self, bound: BoundComponent, *, keyed: bool = True, away: int = 0) -> None:
        self.bound = bound
        self.table: InstanceTable | None = None
        self.keyed = keyed
        self.away = away
        self.calls: list[InstanceCall] = []

    async def call(self, call: InstanceCall) -> bytes:
        self.calls.append(call)
        if self.away:
            self.away -= 1
            raise ProviderUnavailable("away")
        function = next((func for func in self.bound.component.exports if func.name == call.function), None)
        if function is None:
            raise NoSuchFunction(f"no {call.function}")
        assert self.table is not None
        key = call.key if self.keyed else None
        made = Invocation(function, call.arguments, key, call.deadline, call.callers)
        return (await self.table.invoke(call.instance, made)).body


@asynccontextmanager
async def table_of(
    code: ComponentLibrary, stores: Mapping[str, Store], local: Local, mode: CommitMode = CommitMode.INVOCATION
) -> AsyncIterator[InstanceTable]:
    table = InstanceTable(code, environment(stores, commit=mode, caller=local), max_in_memory=10, max_queued=10)
    local.table = table
    yield table
    table.close()


async def delegated(table: InstanceTable, bound: BoundComponent, *what: str, key: str | None = None) -> object:
    return json.loads((await call((table, "alice"), bound, "delegate", "near", *what, key=key)).body)


async def test_a_call_and_what_becomes_of_it(errand: BoundComponent, home: Store) -> None:
    local = Local(errand, away=2)
    async with table_of(library(errand), {"home": home}, local) as table:
        assert await delegated(table, errand, *ADD) == {"ok": "1"}
        # Those that were not answered went under the same key as the one that was.
        assert len(local.calls) == 3 and len({made.key for made in local.calls}) == 1
        assert await delegated(table, errand, *ADD) == {"ok": "2"}
        assert local.calls[-1].key != local.calls[0].key
        assert await delegated(table, errand, "bob", "none", "[]") == {"err": "no such function: no none"}
        failed = await delegated(table, errand, "bob", "trap", "[]")
        assert isinstance(failed, dict) and failed["err"].startswith("guest-trapped: ")
    # Replayed without anybody being called.
    async with table_of(library(errand), {"home": home}, Local(errand, away=99)) as table:
        assert json.loads((await call((table, "alice"), errand, "answered")).body) == 2
    assert await home.get_many(NEAR, ["n", "asked", "answered"]) == [b"2", b"4", b"2"]


async def test_a_circle_is_refused(errand: BoundComponent, home: Store) -> None:
    local = Local(errand)
    async with table_of(library(errand), {"home": home}, local) as table:
        answer = await delegated(table, errand, "alice", "add", '["near", 1]')
        assert answer == {"err": "refused: instance 'alice' calls itself: neither would ever go on"}
        back = json.dumps(["near", "alice", "add", '["near", 1]'])
        answer = await delegated(table, errand, "bob", "delegate", back)
        assert isinstance(answer, dict)
        words = "refused: instance 'bob' calls 'alice', which waits for this very call: neither would ever go on"
        assert json.loads(answer["ok"]) == {"err": words}
        # A long chain, too.
        made = invocation(errand, "delegate", "near", *ADD)
        chain = tuple(digest_of(str(number)) for number in range(MAX_CHAIN))
        result = await table.invoke("carol", Invocation(made.function, made.arguments, None, made.deadline, chain))
        assert json.loads(result.body) == {"err": f"refused: {MAX_CHAIN} instances wait for each other already"}
    assert await home.get_many(NEAR, ["n"]) == [None]


async def _swept(
    errand: BoundComponent, mode: CommitMode, fuse: Fuse, *, keyed: bool = True
) -> tuple[list[object], list[bytes | None]]:
    """Two calls by a caller that repeats what was not answered: their results, and what is in the bucket."""
    stores: Mapping[str, Store] = {"home": MemoryStore(MemoryWorld(), WORKER)}
    code, local = library(errand), Local(errand, keyed=keyed)
    answers: list[object] = []
    seen: Mapping[str, Store] = all_crashing(stores, fuse)
    back = json.dumps(["near", "alice", "add", '["near", 1]'])
    while len(answers) < 3:
        what = ADD if len(answers) < 2 else ("bob", "delegate", back)
        try:
            async with table_of(code, seen, local, mode) as table:
                while len(answers) < 3:
                    what = ADD if len(answers) < 2 else ("bob", "delegate", back)
                    answers.append(await delegated(table, errand, *what, key=f"k{len(answers)}"))
        except Crash:
            seen = stores
            assert local.table is not None
            local.table.close()
    return answers, await stores["home"].get_many(NEAR, ["n", "asked", "answered"])


@pytest.mark.parametrize("mode", list(CommitMode))
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation(errand: BoundComponent, mode: CommitMode, applied: bool) -> None:
    """Of either side. The last call comes back to who made it, and is refused however often it is made."""
    operations, boundaries = 0, set()
    while True:
        operations += 1
        fuse = Fuse(operations, applied=applied)
        answers, kept = await _swept(errand, mode, fuse)
        where = f"crash at operation {operations} ({fuse.burnt})"
        assert answers[:2] == [{"ok": "1"}, {"ok": "2"}], where
        assert isinstance(answers[2], dict) and "refused" in answers[2]["ok"], where
        assert kept == [b"2", b"4", b"3"], where
        if fuse.burnt is None:
            break
        boundaries.add(fuse.burnt)
    assert boundaries >= {"claim", "commit"}


async def test_without_its_key_a_call_would_be_doubled(errand: BoundComponent) -> None:
    """Negative control of the sweep above."""
    operations = 0
    while True:
        operations += 1
        fuse = Fuse(operations, applied=True)
        _, kept = await _swept(errand, CommitMode.INVOCATION, fuse, keyed=False)
        if kept[0] != b"2":
            return
        assert fuse.burnt is not None, "nothing was doubled anywhere"


TINY = BucketPolicy("tiny", "home", max_value_bytes=8)
"""Takes the number that `ask` adds to, and traps it at what it sets then."""


async def _failed(
    errand: BoundComponent, fuse: Fuse, *, keyed: bool = True, callee: str = "bob"
) -> tuple[object, bytes | None, int]:
    """A call whose callee traps behind a gate, by a caller that repeats what was not answered: what it was told, how
    often the gate was passed, and how often the callee was called."""
    stores: Mapping[str, Store] = {"home": MemoryStore(MemoryWorld(), WORKER)}
    code, local = library(errand), Local(errand, keyed=keyed)
    seen: Mapping[str, Store] = all_crashing(stores, fuse)
    told = None
    while told is None:
        table = InstanceTable(code, environment(seen, TINY, caller=local), max_in_memory=10, max_queued=10)
        local.table = table
        try:
            told = await delegated(table, errand, callee, "ask", '["tiny"]', key="k")
            # The failure is durable: asked again, it is the same one.
            assert await delegated(table, errand, callee, "ask", '["tiny"]', key="k") == told
        except Crash:
            seen = stores
        table.close()
    (asked,) = await stores["home"].get_many(BucketAddress(Scope.WORKER, "tiny"), ["asked"])
    return told, asked, len(local.calls)


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_callee_that_traps_behind_a_gate_does_so_once(errand: BoundComponent, applied: bool) -> None:
    operations, most, repeated = 0, 0, False
    expected, _, _ = await _failed(errand, Fuse(0, applied=applied))
    assert isinstance(expected, dict) and expected["err"].startswith("guest-trapped: ")
    while True:
        operations += 1
        fuse = Fuse(operations, applied=applied)
        told, asked, calls = await _failed(errand, fuse)
        where = f"crash at operation {operations} ({fuse.burnt})"
        assert (told, asked) == (expected, b"1"), where
        most = max(most, calls)
        # Negative control: under another key the gate is passed again.
        repeated |= (await _failed(errand, Fuse(operations, applied=applied), keyed=False))[1] != b"1"
        if fuse.burnt is None:
            break
    assert most > 1 and repeated


async def test_a_callee_that_traps_before_any_gate_leaves_nothing_to_repeat(
    errand: BoundComponent, home: Store
) -> None:
    """Not even a result: a retry of whoever called may succeed."""
    local = Local(errand)
    async with table_of(library(errand), {"home": home}, local) as table:
        for _ in range(2):
            failed = await delegated(table, errand, "bob", "trap", "[]", key="k")
            assert isinstance(failed, dict) and failed["err"].startswith("guest-trapped: ")
    assert len(local.calls) == 1, "the caller has its answer in its own result"
    assert await home.instance("bob") is None
    assert await home.result("bob", local.calls[0].key) is None
