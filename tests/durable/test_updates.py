"""What becomes of instances when the Worker's component changes."""

from __future__ import annotations

import asyncio
import json

import pytest

from perdure.component.component import BoundComponent
from perdure.component.engine import Engine
from perdure.durable.instance import DurableInstance
from perdure.durable.settings import CommitMode, UpdatePolicy
from perdure.durable.store import Store
from perdure.errors import Quarantined
from perdure.host.app import guest_interfaces
from perdure.host.library import Keeping, component_library, keep_component
from support.crashing import Crash, Fuse, all_crashing
from support.engine import call, deadline, environment, library
from support.guests import guest


async def opened(
    home: Store, policy: UpdatePolicy, present: BoundComponent, *former: BoundComponent
) -> DurableInstance:
    settings = environment({"home": home}, update=policy)
    return await DurableInstance.open("alice", library(present, *former), settings, deadline=deadline())


async def remembering(home: Store, bound: BoundComponent, number: int) -> None:
    instance = await opened(home, UpdatePolicy.RESTART, bound)
    await call(instance, bound, "run", [{"remember": number}, {"put": ["near", "k", "QUJD"]}], key="first")
    instance.close()


async def state(instance: DurableInstance, bound: BoundComponent) -> tuple[int, list[int]]:
    version = json.loads((await call(instance, bound, "version")).body)
    return version, json.loads((await call(instance, bound, "memory")).body)[:2]


async def test_restart_gives_fresh_memory(ledger: BoundComponent, ledger_next: BoundComponent, home: Store) -> None:
    await remembering(home, ledger, 5)
    for _ in range(2):
        instance = await opened(home, UpdatePolicy.RESTART, ledger_next)
        assert await state(instance, ledger_next) == (2, [0, 0])
        repeated = [{"remember": 5}, {"put": ["near", "k", "QUJD"]}]
        assert (await call(instance, ledger_next, "run", repeated, key="first")).stored
        instance.close()
    assert await home.components() == {ledger_next.component.digest: 1}


async def test_pin_keeps_an_instance_on_its_component(
    ledger: BoundComponent, ledger_next: BoundComponent, home: Store
) -> None:
    await remembering(home, ledger, 5)
    instance = await opened(home, UpdatePolicy.PIN, ledger_next, ledger)
    assert await state(instance, ledger_next) == (1, [5, 1])
    instance.close()
    with pytest.raises(Quarantined, match="not available any more"):
        await opened(home, UpdatePolicy.PIN, ledger_next)
    # That was no verdict for good.
    (await opened(home, UpdatePolicy.PIN, ledger_next, ledger)).close()


async def test_migrate_hands_the_state_over(ledger: BoundComponent, ledger_next: BoundComponent, home: Store) -> None:
    await remembering(home, ledger, 5)
    instance = await opened(home, UpdatePolicy.MIGRATE, ledger_next, ledger)
    assert await state(instance, ledger_next) == (2, [5, 1])
    await call(instance, ledger_next, "run", [{"remember": 2}])
    instance.close()
    # Replayed without the former component.
    instance = await opened(home, UpdatePolicy.MIGRATE, ledger_next)
    assert await state(instance, ledger_next) == (2, [7, 2])
    taken = await instance.capture()
    assert taken is not None and await instance.keep(taken, instance.sequence)
    instance.close()
    instance = await opened(home, UpdatePolicy.MIGRATE, ledger_next)
    assert await state(instance, ledger_next) == (2, [7, 2])
    instance.close()


async def test_a_migration_that_fails_leaves_the_instance_as_it_was(
    ledger: BoundComponent, ledger_next: BoundComponent, home: Store
) -> None:
    await remembering(home, ledger, -5)
    for _ in range(2):
        instance = await opened(home, UpdatePolicy.MIGRATE, ledger_next, ledger)
        assert await state(instance, ledger_next) == (1, [-5, 1])
        instance.close()


@pytest.mark.parametrize("policy", list(UpdatePolicy))
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation_of_an_update(
    ledger: BoundComponent,
    ledger_next: BoundComponent,
    home: Store,
    policy: UpdatePolicy,
    applied: bool,
) -> None:
    expected = {
        UpdatePolicy.RESTART: (2, [0, 0]),
        UpdatePolicy.PIN: (1, [5, 1]),
        UpdatePolicy.MIGRATE: (2, [5, 1]),
    }[policy]
    operations = 0
    while True:
        operations += 1
        await home.delete_instance("alice")
        await remembering(home, ledger, 5)
        fuse = Fuse(operations, applied=applied)
        settings = environment(all_crashing({"home": home}, fuse), update=policy)
        try:
            code = library(ledger_next, ledger)
            (await DurableInstance.open("alice", code, settings, deadline=deadline())).close()
        except Crash:
            pass
        instance = await opened(home, policy, ledger_next, ledger)
        assert await state(instance, ledger_next) == expected, fuse.burnt
        instance.close()
        if fuse.burnt is None:
            return


async def test_an_invocation_ends_on_the_component_it_began_on(
    ledger: BoundComponent, ledger_next: BoundComponent, home: Store
) -> None:
    fuse = Fuse(2, applied=True)
    settings = environment(all_crashing({"home": home}, fuse), commit=CommitMode.EFFECT)
    instance = await DurableInstance.open("alice", library(ledger), settings, deadline=deadline())
    program = [{"put": ["near", "k", "QUJD"]}, {"remember": 3}]
    with pytest.raises(Crash):
        await call(instance, ledger, "run", program, key="first")
    instance.close()
    instance = await opened(home, UpdatePolicy.RESTART, ledger_next, ledger)
    assert await state(instance, ledger_next) == (1, [3, 1])
    assert (await call(instance, ledger, "run", program, key="first")).stored
    instance.close()
    instance = await opened(home, UpdatePolicy.RESTART, ledger_next, ledger)
    assert await state(instance, ledger_next) == (2, [0, 0])
    instance.close()


async def test_a_host_of_the_former_component_that_starts_again_drops_nothing(
    engine: Engine, ledger: BoundComponent, ledger_next: BoundComponent, home: Store
) -> None:
    """In a rollout hosts of both start in any order, and no instance may have run on the new one yet."""
    old, new = (bound.component.digest for bound in (ledger, ledger_next))
    data = {old: guest("ledger").read_bytes(), new: guest("ledger-next").read_bytes()}

    async def starts(digest: str) -> None:
        await keep_component(UpdatePolicy.PIN, digest, data[digest], home)

    for digest in (old, new, old):
        await starts(digest)
    await remembering(home, ledger_next, 5)
    # Rolled back: what began on the new one stays there.
    await starts(old)
    code = component_library(ledger, engine, guest_interfaces(), home)
    settings = environment({"home": home}, update=UpdatePolicy.PIN)
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
    assert await state(instance, ledger) == (2, [5, 1])
    instance.close()
    code.close()
    await home.delete_instance("alice")
    # Negative control: a host that does not ask what others run drops it,
    await home.keep_component(old, data[old])
    assert await home.component(new) is None
    # and who runs it keeps it again.
    keeping = Keeping(UpdatePolicy.PIN, new, data[new], home, first=0.01)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeping.run())
        while await home.component(new) is None:
            await asyncio.sleep(0.01)
        running.cancel()
    assert await home.component(old) == data[old]
