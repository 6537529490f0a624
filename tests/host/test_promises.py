"""Promises over HTTP: completed by whoever has the id, though the host that waits is killed, and by any host."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import uuid
from pathlib import Path

import aiohttp
import pytest

from perdure.durable.promises import promise_id
from perdure.host.parking import Parking
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.engine import WORKER
from support.guests import COMPILED, guest
from support.hosts import Client, HostProcess, acquainted, local_host
from support.servers import RedisServer

WORKER_MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: NAME}
spec:
  component: {url: "file:GUEST"}
  limits: {invocationTimeout: 20s, maxBodyBytes: 2000}
  keyValue: {undeclaredBuckets: Allow}
"""
SHARED = """
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: shared}
spec: {default: true, redis: {url: "URL", timeout: 1s}}
---
"""
ASYNC = {"Prefer": "respond-async"}


def written(path: Path, *, url: str | None = None) -> Path:
    text = "" if url is None else SHARED.replace("URL", url)
    text += WORKER_MANIFEST.replace("NAME", "w" + uuid.uuid4().hex[:8]).replace("GUEST", str(guest("errand")))
    path.write_text(text)
    return path


def answer(data: bytes) -> dict[str, str]:
    return {"ok": base64.b64encode(data).decode()}


async def made(client: Client, instance: str = "a") -> str:
    status, promise = await client.call(instance, "promise")
    assert status == 200 and isinstance(promise, str)
    return promise


async def complete(client: Client, promise: str, body: bytes, *, how: str = "") -> tuple[int, dict[str, object]]:
    async with client.session.post(f"{client.url}/v1/promises/{promise}{how}", data=body) as reply:
        return reply.status, await reply.json(content_type=None)


async def accept(client: Client, instance: str, function: str, *args: object) -> str:
    target = f"{client.url}/v1/instances/{instance}/functions/{function}"
    async with client.session.post(target, json=list(args), headers=ASYNC) as reply:
        assert reply.status == 202
        return reply.headers["Location"]


async def ended(client: Client, location: str) -> object:
    async with client.session.get(client.url + location, headers={"Prefer": "wait=30"}) as reply:
        return (await reply.json()).get("result")


async def test_a_promise_from_beginning_to_end(tmp_path: Path) -> None:
    async with local_host(written(tmp_path / "w.yaml"), tmp_path / "d", base=Path("/"), cache=COMPILED) as (_, client):
        promise = await made(client)
        path = f"/v1/promises/{promise}"
        told: dict[str, object] = {"promise": promise, "instance": "a"}
        assert await client.get(path) == (200, {**told, "state": "pending"})
        waits = asyncio.create_task(client.call("b", "wait", promise))
        await asyncio.sleep(0.1)
        assert await complete(client, promise, b"\x00yes") == (200, {**told, "state": "completed", "bytes": 4})
        assert await waits == (200, answer(b"\x00yes"))
        assert (await complete(client, promise, b"\x00yes"))[0] == 200
        for how, body in (("", b"no"), ("/failure", b"\x00yes")):
            status, problem = await complete(client, promise, body, how=how)
            assert (status, problem["code"]) == (409, "promise-completed")
        # A failure, by the command.
        other = await made(client)
        command = [sys.executable, "-m", "perdure", "promise", other, "--url", client.url, "--fail", "out of stock"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert await client.call("a", "wait", other) == (200, {"err": "failed: out of stock"})
        shown = await client.get(f"/v1/promises/{other}")
        assert shown == (200, {"promise": other, "instance": "a", "state": "failed", "failure": "out of stock"})


async def test_what_is_refused(tmp_path: Path) -> None:
    async with local_host(written(tmp_path / "w.yaml"), tmp_path / "d", base=Path("/"), cache=COMPILED) as (_, client):
        promise = await made(client)
        for unknown in (promise_id("a", b"0" * 16), "x", promise + "0"):
            assert (await client.get(f"/v1/promises/{unknown}"))[0] == 404
            status, problem = await complete(client, unknown, b"")
            assert (status, problem["code"]) == (404, "no-such-promise")
        status, problem = await complete(client, promise, b"x" * 2001)
        assert (status, problem["code"]) == (413, "too-large")
        status, problem = await complete(client, promise, b"\xff", how="/failure")
        assert (status, problem["code"]) == (400, "bad-request")
        assert (await client.get(f"/v1/promises/{promise}"))[1]["state"] == "pending"


async def test_a_host_that_is_killed_while_a_call_waits(tmp_path: Path) -> None:
    """Twice, once before and once after the call has left memory."""
    process = HostProcess(written(tmp_path / "w.yaml"), tmp_path / "data")
    try:
        process.start(PERDURE_CACHE=str(COMPILED.parent))
        async with aiohttp.ClientSession() as session:
            client = Client(process.url, session)
            promise = await made(client)
            location = await accept(client, "b", "wait", promise)
            for pause in (0.5, 2.5):
                await asyncio.sleep(pause)
                process.kill()
                process.wait()
                process.start(PERDURE_CACHE=str(COMPILED.parent))
            # It waits, and the host does what others want meanwhile.
            assert (await client.get(location))[1]["state"] == "running"
            assert (await client.call("c", "answered"))[0] == 200
            assert (await complete(client, promise, b"yes"))[0] == 200
            assert await ended(client, location) == answer(b"yes")
    finally:
        process.stop()


async def test_more_calls_wait_than_inboxes_run_at_once(tmp_path: Path) -> None:
    async with local_host(written(tmp_path / "w.yaml"), tmp_path / "d", base=Path("/"), cache=COMPILED) as (_, client):
        promise = await made(client)
        locations = [await accept(client, f"i{number}", "wait", promise) for number in range(40)]
        # Behind 32 that wait there is room for another one.
        assert await ended(client, await accept(client, "other", "answered")) == 0
        await complete(client, promise, b"yes")
        for location in locations:
            assert await ended(client, location) == answer(b"yes")


async def test_any_host_completes_the_promise_of_any_instance(redis: RedisServer, tmp_path: Path) -> None:
    file = written(tmp_path / "w.yaml", url=redis.url)
    async with local_host(file, tmp_path / "1", host="one", base=Path("/"), cache=COMPILED) as (_, one):
        async with local_host(file, tmp_path / "2", host="two", base=Path("/"), cache=COMPILED) as (_, two):
            await acquainted(one, two)
            promises, locations = [], []
            for number in range(8):
                promises.append(await made(one, f"p{number}"))
                locations.append(await accept(two, f"i{number}", "wait", promises[-1]))
            held = {(await one.get(f"/v1/instances/p{number}"))[1]["host"] for number in range(8)}
            assert held == {"one", "two"}
            await asyncio.sleep(2.5)
            for number, promise in enumerate(promises):
                status, _ = await complete(two if number % 2 else one, promise, b"%d" % number)
                assert status == 200
            for number, location in enumerate(locations):
                assert await ended(one, location) == answer(b"%d" % number)


async def test_parking_is_bounded_and_trusts_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    parking = Parking(MemoryStore(MemoryWorld(), WORKER), lambda: 0)
    monkeypatch.setattr("perdure.host.parking.MOST", 2)
    for name in "abc":
        parking.park(name, promise_id(name, b"0" * 16))
    assert [parking.holds(name) for name in "abc"] == [False, True, True]
    # There is no such promise: whoever waits for it must find out.
    await parking.look()
    assert not parking.holds("b")
    monkeypatch.setattr("perdure.host.parking._TRUSTED", -1.0)
    parking.park("d", promise_id("d", b"0" * 16))
    assert not parking.holds("d")
