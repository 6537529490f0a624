"""`durability.memory: Invocation`: each call begins with new memory; everything else is as durable as it is elsewhere.

Crashes at every operation are in `test_crashes.py`.
"""

from __future__ import annotations

import json

import pytest

from perdure.component.component import BoundComponent
from perdure.durable import recovery
from perdure.durable.inspection import check
from perdure.durable.instance import DurableInstance
from perdure.durable.settings import CommitMode, MemoryMode, UpdatePolicy
from perdure.durable.store import Store
from perdure.errors import GuestTrapped
from support.crashing import Crash, Fuse, crashing
from support.engine import call, deadline, environment, library

NEW = {"memory": MemoryMode.INVOCATION}


async def run(instance: DurableInstance, ledger: BoundComponent, *steps: object, key: str | None = None) -> object:
    return json.loads((await call(instance, ledger, "run", list(steps), key=key)).body)


async def memory(instance: DurableInstance, ledger: BoundComponent) -> list[object]:
    found: list[object] = json.loads((await call(instance, ledger, "memory")).body)
    return found[:2]


async def test_nothing_is_left_in_memory_and_one_call_in_the_journal(ledger: BoundComponent, home: Store) -> None:
    code = library(ledger)
    for settings in (environment({"home": home}, **NEW), environment({"home": home}, **NEW)):
        instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
        for _ in range(3):
            await run(instance, ledger, {"remember": 5}, {"add": ["near", "n", 1]})
            data = await home.peek("alice")
            assert data is not None and len(data.journal) == 2 and data.snapshot is None, "a gate and the end"
            assert not instance.snapshot_due and check(data) == []
        assert await memory(instance, ledger) == [0, 0]
        instance.close()
    instance = await DurableInstance.open("alice", code, environment({"home": home}), deadline=deadline())
    assert await run(instance, ledger, {"get": ["near", "n"]}) == [{"value": "Ng=="}], "buckets stay"
    await run(instance, ledger, {"remember": 5})
    assert (await memory(instance, ledger))[0] == 5, "the control: memory that goes on"
    instance.close()
    code.close()


async def test_a_trap_and_an_answer_given_before(ledger: BoundComponent, home: Store) -> None:
    code, settings = library(ledger), environment({"home": home}, **NEW)
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    first = await run(instance, ledger, {"add": ["near", "n", 1]}, key="k")
    assert await run(instance, ledger, {"add": ["near", "n", 1]}, key="k") == first == [{"number": 1}]
    with pytest.raises(GuestTrapped):
        await run(instance, ledger, {"put": ["near", "a", "YQ=="]}, "trap")
    assert not instance.usable
    instance.close()
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    assert await run(instance, ledger, {"get": ["near", "a"]}, {"add": ["near", "n", 1]}) == [
        {"value": None},
        {"number": 2},
    ]
    instance.close()
    code.close()


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "control"])
async def test_a_call_ends_with_the_memory_it_began_with(
    ledger: BoundComponent, home: Store, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun where memory is kept, and finished by a host that keeps none. The control: one that does not look."""
    if not kept:
        monkeypatch.setattr(recovery, "_begun_anew", lambda plan: True)
    code, settings = library(ledger), {"commit": CommitMode.EFFECT}
    instance = await DurableInstance.open("alice", code, environment({"home": home}, **settings), deadline=deadline())
    await run(instance, ledger, {"remember": 5})
    instance.close()
    dying = environment({"home": crashing(home, Fuse(4, applied=False))}, **settings)
    doomed = await DurableInstance.open("alice", code, dying, deadline=deadline())
    steps = [{"add": ["near", "n", 1]}, {"add": ["near", "n", 1]}, {"remember": 2}]
    with pytest.raises(Crash):
        await run(doomed, ledger, *steps, key="k")
    doomed.close()
    data = await home.peek("alice")
    assert data is not None and data.open, "the first gate was passed, the end was not"
    new = environment({"home": home}, **settings, **NEW)
    instance = await DurableInstance.open("alice", code, new, deadline=deadline())
    remembered = {"number": 7 if kept else 2}
    assert await run(instance, ledger, *steps, key="k") == [{"number": 1}, {"number": 2}, remembered]
    assert await run(instance, ledger, {"remember": 1}) == [{"number": 1}]
    instance.close()
    code.close()


async def test_another_component(ledger: BoundComponent, ledger_next: BoundComponent, home: Store) -> None:
    settings = environment({"home": home}, update=UpdatePolicy.RESTART, **NEW)
    for bound in (ledger, ledger_next, ledger):
        code = library(bound)
        instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
        assert await memory(instance, bound) == [0, 0]
        await run(instance, bound, {"add": ["near", "n", 1]})
        instance.close()
        code.close()
