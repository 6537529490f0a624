"""The cache's rendezvous over hosts, which are processes here, and over the death of one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from support.hosts import Client, HostProcess, retry
from support.keyvalue import b64, manifest_of
from support.servers import RedisServer

Start = Callable[[str], HostProcess]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def start(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts hosts of one Worker."""
    spec = {"keyValue": {"undeclaredBuckets": "Allow", "cache": {"vacancyLease": "20s"}}}
    name = f"met-{uuid.uuid4().hex[:12]}"
    manifest = manifest_of(name, "kv-g2", {"redis": {"url": redis.url}}, tmp_path, spec)
    started: list[HostProcess] = []

    def begin(host: str) -> HostProcess:
        process = HostProcess(manifest, tmp_path / host)
        started.append(process)
        process.start()
        return process

    yield begin
    for process in started:
        process.stop()


def meet(key: str, data: bytes) -> object:
    return {"get-or-set": [key, b64(data), None]}


async def test_one_of_many_on_two_hosts_fills(start: Start, session: aiohttp.ClientSession) -> None:
    hosts = [await asyncio.to_thread(start, name) for name in ("one", "two")]
    clients = [Client(host.url, session) for host in hosts]
    for number in range(3):
        asked = (
            retry(clients[at % 2], f"i{at}", "run", [meet(f"k{number}", b"by %d" % at)], key=f"{number}-{at}")
            for at in range(8)
        )
        answers = await asyncio.gather(*asked)
        fillers = [at for at, answer in enumerate(answers) if answer == ["filled"]]
        assert len(fillers) == 1
        assert [answer for answer in answers if answer != ["filled"]] == [[{"value": b64(b"by %d" % fillers[0])}]] * 7


async def test_a_vacancy_survives_its_host(start: Start, session: aiohttp.ClientSession) -> None:
    """Killed between the claim and the fill: the next host goes on with the vacancy, long before the lease ends."""
    first = await asyncio.to_thread(start, "one")
    steps = [{"claim": "k"}, {"sleep": 2000}, {"settle": [b64(b"held"), None]}]
    holder = asyncio.create_task(Client(first.url, session).call("a", "run", steps, key="holder"))
    async with asyncio.timeout(60):
        while (await Client(first.url, session).get("/v1/instances/a"))[0] != 200:
            await asyncio.sleep(0.02)
    assert not holder.done(), "it sleeps, behind a gate"
    first.kill()
    await asyncio.gather(holder, return_exceptions=True)
    client = Client((await asyncio.to_thread(start, "two")).url, session)
    async with asyncio.timeout(15):
        waiter = asyncio.create_task(retry(client, "b", "run", [meet("k", b"other")], key="waiter"))
        assert await retry(client, "a", "run", steps, key="holder") == [{"truth": True}, "nothing", "filled"]
        assert await waiter == [{"value": b64(b"held")}]
