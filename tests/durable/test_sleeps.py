"""A long sleep is a gate: what came before is durable, and a crash during it does not begin it again."""

from __future__ import annotations

import asyncio
import json
import time

from perdure.component.component import BoundComponent
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.instance import DurableInstance
from perdure.durable.store import Store
from support.engine import call, deadline, environment, library

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
