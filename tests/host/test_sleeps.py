"""Calls that sleep long: without memory where they are asynchronous, through the death of hosts, and in time."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from perdure.wasi import polling
from support.guests import COMPILED, guest
from support.hosts import Client, HostProcess, local_host
from support.servers import RedisServer

MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: sleeps}
spec:
  component: {url: "file:GUEST"}
  limits: {invocationTimeout: 20s}
  keyValue: {undeclaredBuckets: Allow}
"""
SHARED = """
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: shared}
spec: {default: true, KIND: {url: "URL"}}
---
"""
TESTS = Path(__file__).parents[1]


def written(directory: Path, url: str | None = None) -> Path:
    """`url`: of a store that hosts share; else each has a file."""
    shared = ""
    if url is not None:
        shared = SHARED.replace("KIND", url.partition(":")[0].replace("postgresql", "postgres")).replace("URL", url)
    name = "sleeps" if url is None else f"w{uuid.uuid4().hex[:8]}"
    path = directory / "w.yaml"
    path.write_text(shared + MANIFEST.replace("GUEST", str(guest("ledger"))).replace("sleeps", name))
    return path


def program(milliseconds: int) -> list[dict[str, object]]:
    return [{"add": ["near", "before", 1]}, {"sleep": milliseconds}, {"add": ["near", "after", 1]}]


def start(process: HostProcess) -> None:
    """One to which half a second is a long sleep."""
    process.start(PERDURE_CACHE=str(COMPILED.parent), PYTHONPATH=str(TESTS), PERDURE_SHARED_USERNAME="postgres")


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


@asynccontextmanager
async def sleepless(directory: Path, monkeypatch: pytest.MonkeyPatch, grace: float = 2.0) -> AsyncIterator[Client]:
    """A host here, where a sleep of a tenth of a second is long enough to give up memory for."""
    monkeypatch.setattr(polling, "LEAVES_NS", polling.LONG_NS)
    file, data = written(directory), directory / "d"
    async with local_host(file, data, base=Path("/"), cache=COMPILED, grace=grace) as (_, client):
        yield client


HOUR = 3_600_000


async def test_a_call_that_sleeps_can_be_given_up_but_not_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sleepless(tmp_path, monkeypatch) as client:
        location = await accept(client, "a", HOUR)
        waits = await accept(client, "a", 1)
        await sleeps(client, "a")
        # It has begun; the one behind it has not.
        for where, answer in ((location, (409, "not-cancellable")), (waits, (200, None))):
            async with client.session.delete(client.url + where) as reply:
                assert (reply.status, (await reply.json(content_type=None)).get("code")) == answer
        async with client.session.post(f"{client.url}/v1/instances/a/skip") as reply:
            assert reply.status == 200
        async with client.session.get(client.url + location) as reply:
            assert (await reply.json())["failure"]["code"] == "skipped"
        # At once, not when the sleep would have been over.
        location = await accept(client, "a", 1)
        assert await ended(client, location) == [{"number": 2}, "nothing", {"number": 1}]


async def test_an_instance_that_is_deleted_while_its_call_sleeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sleepless(tmp_path, monkeypatch) as client:
        location = await accept(client, "a", HOUR)
        await sleeps(client, "a")
        async with client.session.delete(f"{client.url}/v1/instances/a") as reply:
            assert reply.status == 204
        assert (await client.get("/v1/instances/a"))[0] == 404
        assert (await client.get(location))[0] == 404
        # The next of its name is nobody who sleeps.
        location = await accept(client, "a", 1)
        assert await ended(client, location) == [{"number": 2}, "nothing", {"number": 1}]
        await accept(client, "a", HOUR)
        await sleeps(client, "a")


async def test_a_host_that_ends_does_not_wait_for_sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(30):
        async with sleepless(tmp_path, monkeypatch, grace=600.0) as client:
            location = await accept(client, "a", 3000)
            await sleeps(client, "a")
        # The next one goes on; what came before the sleep is not repeated.
        async with sleepless(tmp_path, monkeypatch) as client:
            assert await ended(client, location) == [{"number": 1}, "nothing", {"number": 1}]


async def test_an_instance_is_deleted_by_the_host_that_has_it(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is asked: the one that leaves its sleeper alone must hear of it."""
    monkeypatch.setattr(polling, "LEAVES_NS", polling.LONG_NS)
    file, base = written(tmp_path, redis.url), Path("/")
    async with local_host(file, tmp_path / "1", host="one", base=base, cache=COMPILED) as (_, one):
        async with local_host(file, tmp_path / "2", host="two", base=base, cache=COMPILED) as (_, two):
            await asyncio.sleep(1.2)
            for name in ("a", "b", "c", "d"):
                await accept(one, name, HOUR)
                await sleeps(one, name)
            owners = {(await one.get(f"/v1/instances/{name}"))[1]["host"] for name in ("a", "b", "c", "d")}
            assert owners == {"one", "two"}
            for name in ("a", "b", "c", "d"):
                async with two.session.delete(f"{two.url}/v1/instances/{name}") as reply:
                    assert reply.status == 204
                assert isinstance(await ended(one, await accept(one, name, 1)), list)


@pytest.mark.parametrize("provider", ["redis", "postgres"])
async def test_another_host_takes_over_a_sleeper(request: pytest.FixtureRequest, tmp_path: Path, provider: str) -> None:
    """One that is there already, over a store that both share; the first one is killed while the call sleeps."""
    # Manifests hold no user's name.
    url = request.getfixturevalue(provider).url.replace("postgres@", "")
    first = HostProcess(written(tmp_path, url), tmp_path / "1", module="support.impatient")
    second = HostProcess(first.manifest, tmp_path / "2", module="support.impatient")
    try:
        start(first)
        async with aiohttp.ClientSession() as session:
            begun = time.time()
            locations = {name: await accept(Client(first.url, session), name, 6000) for name in ("a", "b", "c")}
            for name in locations:
                await sleeps(Client(first.url, session), name)
            start(second)
            first.kill()
            client = Client(second.url, session)
            answers = [await ended(client, location) for location in locations.values()]
            assert sorted(answer[0]["number"] for answer in answers) == [1, 2, 3]  # type: ignore[index]
            assert sorted(answer[2]["number"] for answer in answers) == [1, 2, 3]  # type: ignore[index]
            assert time.time() - begun >= 6
    finally:
        first.stop()
        second.stop()
