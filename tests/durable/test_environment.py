"""A guest's environment is what it was when the guest asked, however often the manifest or a Secret changes."""

from __future__ import annotations

import json

import pytest

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.durable.instance import DurableInstance
from perdure.durable.settings import MemoryMode, SnapshotPolicy
from perdure.durable.store import Store
from perdure.host.app import guest_interfaces
from perdure.wasi import resolver
from perdure.wasi.state import WasiContext
from support.engine import call, deadline, environment, library
from support.guests import guest

ENVIRONMENT = ("wasi:cli/environment", "get-environment")
BLUE, RED = (("COLOUR", "blue"),), (("COLOUR", "red"), ("SIZE", "5"))


def unrecorded(ctx: WasiContext) -> list[tuple[str, str]]:
    return list(ctx.wasi.environment)


async def bound(engine: Engine) -> BoundComponent:
    return (await Component.load(engine, guest("trouble").read_bytes())).bind(guest_interfaces())


async def asked(
    home: Store,
    code: BoundComponent,
    variables: tuple[tuple[str, str], ...],
    name: str = "COLOUR",
    memory: MemoryMode = MemoryMode.INSTANCE,
) -> tuple[object, int]:
    """What the guest says, and how many entries were replayed before."""
    settings = environment({"home": home}, variables=variables, memory=memory, snapshots=SnapshotPolicy(entries=1000))
    instance = await DurableInstance.open("alice", library(code), settings, deadline=deadline())
    before = instance.sequence
    try:
        return json.loads((await call(instance, code, "variable", name)).body), before
    finally:
        instance.close()


async def test_replay_gives_what_the_guest_was_given(engine: Engine, home: Store) -> None:
    code = await bound(engine)
    # The guest's library asks once, and keeps what it is told in memory.
    assert await asked(home, code, BLUE) == ("blue", 0)
    assert await asked(home, code, RED) == ("blue", 1)
    assert await asked(home, code, (), "SIZE") == (None, 2)
    await home.delete_instance("alice")
    assert await asked(home, code, RED, "SIZE") == ("5", 0)
    assert await asked(home, code, BLUE, "SIZE") == ("5", 1)


async def test_no_environment_is_one_too(engine: Engine, home: Store) -> None:
    code = await bound(engine)
    assert await asked(home, code, ()) == (None, 0)
    assert await asked(home, code, BLUE) == (None, 1)


async def test_a_new_memory_is_given_what_there_is_now(engine: Engine, home: Store) -> None:
    code = await bound(engine)
    for variables, answer in ((BLUE, "blue"), (RED, "red"), ((), None)):
        assert (await asked(home, code, variables, memory=MemoryMode.INVOCATION))[0] == answer


async def test_a_journal_from_before_it_was_recorded(
    engine: Engine, home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as former:
        former.setitem(resolver._FUNCTIONS, ENVIRONMENT, unrecorded)
        old = await bound(engine)
        assert await asked(home, old, BLUE) == ("blue", 0)
        # Negative control: the memory is another one than it was, and nobody is told.
        assert await asked(home, old, RED) == ("red", 1)
    code = await bound(engine)
    assert await asked(home, code, BLUE) == ("blue", 2)
