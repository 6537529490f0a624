"""Calls that sleep long: without memory where they are asynchronous, through the death of hosts, and in time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from perdure.wasi import polling
from support.guests import COMPILED, guest
from support.hosts import Client, HostProcess, local_host

MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: sleeps}
spec:
  component: {url: "file:GUEST"}
  limits: {invocationTimeout: 20s}
  keyValue: {undeclaredBuckets: Allow}
"""
TESTS = Path(__file__).parents[1]


def written(directory: Path) -> Path:
    path = directory / "w.yaml"
    path.write_text(MANIFEST.replace("GUEST", str(guest("ledger"))))
    return path


def program(milliseconds: int) -> list[dict[str, object]]:
    return [{"add": ["near", "before", 1]}, {"sleep": milliseconds}, {"add": ["near", "after", 1]}]


async def accept(client: Client, instance: str, milliseconds: int) -> str:
    target = f"{client.url}/v1/instances/{instance}/functions/run"
    headers = {"Prefer": "respond-async"}
    async with client.session.post(target, json=[program(milliseconds)], headers=headers) as reply:
        assert reply.status == 202
        return reply.headers["Location"]


async def ended(client: Client, location: str) -> object:
    async with client.session.get(client.url + location, headers={"Prefer": "wait=30"}) as reply:
        return (await reply.json()).get("result")


async def sleeps(client: Client, instance: str) -> None:
    """Once it does so without memory: another call is refused then, rather than made to wait in line."""
    async with asyncio.timeout(20):
        while True:
            status, problem = await client.call(instance, "memory")
            if status == 503:
                assert isinstance(problem, dict) and problem["code"] == "waiting", problem
                _, shown = await client.get(f"/v1/instances/{instance}")
                assert isinstance(shown, dict) and shown["inMemory"] is False
                return
            await asyncio.sleep(0.02)


async def test_a_host_that_is_killed_while_a_call_sleeps(tmp_path: Path) -> None:
    """Another process goes on, sees that it is early, and that it is time."""
    first = HostProcess(written(tmp_path), tmp_path / "data", module="support.impatient")
    second = HostProcess(first.manifest, tmp_path / "data", module="support.impatient")
    cache, path = str(COMPILED.parent), str(TESTS)
    try:
        first.start(PERDURE_CACHE=cache, PYTHONPATH=path)
        async with aiohttp.ClientSession() as session:
            begun = time.time()
            client = Client(first.url, session)
            location = await accept(client, "a", 6000)
            await sleeps(client, "a")
            first.kill()
            first.wait()
            second.start(PERDURE_CACHE=cache, PYTHONPATH=path)
            client = Client(second.url, session)
            await sleeps(client, "a")
            assert await ended(client, location) == [{"number": 1}, "nothing", {"number": 1}]
            # Not before its time; how much later is a question of the machine.
            assert time.time() - begun >= 6
            assert await client.call("b", "run", program(1)) == (200, [{"number": 2}, "nothing", {"number": 2}])
    finally:
        first.stop()
        second.stop()


async def test_a_synchronous_call_sleeps_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "LEAVES_NS", polling.LONG_NS)
    async with local_host(written(tmp_path), tmp_path / "d", base=Path("/"), cache=COMPILED) as (_, client):
        sleeping = asyncio.create_task(client.call("a", "run", program(1000)))
        async with asyncio.timeout(20):
            while (found := await client.get("/v1/instances/a"))[0] != 200:
                await asyncio.sleep(0.02)
        assert isinstance(found[1], dict) and found[1]["inMemory"] is True, "though a call runs"
        status, _ = await client.call("a", "memory")
        assert status == 200, "it waited in line"
        assert await sleeping == (200, [{"number": 1}, "nothing", {"number": 1}])
        # The same sleep of an asynchronous call is one without memory.
        location = await accept(client, "b", 3000)
        await sleeps(client, "b")
        assert await ended(client, location) == [{"number": 2}, "nothing", {"number": 2}]
