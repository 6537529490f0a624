"""A snapshot and a journal after it take the guest where it was, with what waits for another caller's fill."""

from __future__ import annotations

import asyncio
import json

import pytest

from faults.model import encoded
from perdure.component.component import BoundComponent
from perdure.durable.instance import DurableInstance
from perdure.durable.store import Store
from support.engine import call, deadline, environment, library


@pytest.mark.parametrize("fills_first", [False, True])
async def test_a_wait_after_a_snapshot_is_replayed(legacy: BoundComponent, home: Store, fills_first: bool) -> None:
    """What earlier calls used up of the numbers that waits have in the journal is in the snapshot."""
    code = library(legacy)

    async def open_(name: str) -> DurableInstance:
        return await DurableInstance.open(name, code, environment({"home": home}), deadline=deadline())

    async def run(instance: DurableInstance, *steps: object) -> object:
        return json.loads((await call(instance, legacy, "run", list(steps))).body)

    holder, waiter = await open_("holder"), await open_("waiter")
    value = encoded(b"held")
    assert await run(holder, {"claim": "k"}) == [{"truth": True}]
    for key in ("x", "y", "z"):
        assert await run(waiter, {"get-or-set": [key, encoded(b"mine"), None]}) == ["filled"]
    taken = await waiter.capture()
    assert taken is not None and await waiter.keep(taken, waiter.sequence)
    assert await run(waiter, {"claim": "k"}) == [{"truth": False}]
    if fills_first:
        assert await run(holder, {"settle": [value, None]}) == ["filled"]
        assert await run(waiter, {"settle": [value, None]}, {"remember": 5}) == [{"value": value}, {"number": 5}]
    else:
        waiting = asyncio.create_task(run(waiter, {"settle": [value, None]}, {"remember": 5}))
        await asyncio.sleep(0.05)
        assert await run(holder, {"settle": [value, None]}) == ["filled"]
        assert await waiting == [{"value": value}, {"number": 5}]
    waiter.close()
    again = await open_("waiter")
    assert await run(again, {"remember": 1}) == [{"number": 6}]
    for instance in (again, holder):
        instance.close()
    code.close()
