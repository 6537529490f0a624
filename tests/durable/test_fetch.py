"""A script's `fetch`: the same guarantees, and snapshots although it leaves its handles to the garbage collector."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.durable.instance import DurableInstance
from perdure.durable.store import Store
from perdure.host.app import guest_interfaces
from perdure.host.outgoing import OutgoingHttp
from perdure.manifests.worker import Http
from support.engine import call, deadline, environment, library
from support.guests import built
from support.web import Shop, shop_server

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
async def script(engine: Engine) -> BoundComponent:
    data = Path(built("build-web-guest", "web-js")).read_bytes()
    return (await Component.load(engine, data)).bind(guest_interfaces())


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with shop_server() as server:
        yield server


async def test_fetch(script: BoundComponent, shop: Shop, home: Store) -> None:
    client = OutgoingHttp(Http(allow=(f"127.0.0.1:{shop.port}",)))
    code, settings = library(script), environment({"home": home}, http=client)
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline(300))
    urls = [f"{shop.url}/charge", f"{shop.url}/charge"]
    answers = json.loads((await call(instance, script, "fetch-all", "POST", urls, "pears", key="k")).body)
    assert sorted(answers) == ["200 charge 1 pears", "200 charge 2 pears"]
    assert len(shop.charges) == 2
    await call(instance, script, "fetch-all", "GET", [f"{shop.url}/slow?s=0.1"], "")
    instance.close()
    # From the journal, then from a snapshot: nothing is sent again.
    for _ in range(2):
        instance = await DurableInstance.open("alice", code, settings, deadline=deadline(300))
        assert json.loads((await call(instance, script, "counted")).body) == 3
        taken = await instance.capture()
        assert taken is not None, "handles that are of no more use are in nobody's way"
        assert await instance.keep(taken, instance.sequence)
        instance.close()
    assert len(shop.requests) == 3
    instance = await DurableInstance.open("alice", code, settings, deadline=deadline(300))
    assert "404" in json.loads((await call(instance, script, "fetch-all", "GET", [f"{shop.url}/none"], "")).body)[0]
    instance.close()
    code.close()
    await client.close()
