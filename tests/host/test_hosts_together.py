"""Several hosts of one Worker over one Redis: routing, fencing, failover, a store that goes away."""

from __future__ import annotations

import asyncio
import base64
import datetime
import random
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

from support.hosts import EXAMPLE, Client, acquainted, local_host, retry
from support.servers import RedisServer, redis_server

BLUE = base64.b64encode(b"blue").decode()
MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: shared}
spec: {default: true, redis: {url: "URL", timeout: 1s}}
---
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: NAME}
spec:
  component: {url: "file:EXAMPLE"}
  limits: {invocationTimeout: 5s}
  keyValue: {undeclaredBuckets: Allow}
"""


def manifest(path: Path, url: str) -> Path:
    path.write_text(
        MANIFEST.replace("URL", url).replace("EXAMPLE", str(EXAMPLE)).replace("NAME", "w" + uuid.uuid4().hex[:8])
    )
    return path


async def readiness(client: Client, status: int) -> str:
    """What it says once it has that status."""
    async with asyncio.timeout(60):
        while True:
            async with client.session.get(client.metrics + "/readyz") as reply:
                if reply.status == status:
                    return await reply.text()
            await asyncio.sleep(0.05)


async def test_any_host_answers_for_any_instance(redis: RedisServer, tmp_path: Path) -> None:
    file = manifest(tmp_path / "w.yaml", redis.url)
    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        for number in range(3):
            pair = await stack.enter_async_context(
                local_host(file, tmp_path / str(number), host=f"host-{number}", base=Path("/"))
            )
            clients.append(pair[1])
        await acquainted(*clients)
        for number in range(12):
            for client in clients:
                assert await client.call(f"i{number}", "set", "b", "k", BLUE) == (200, None)
        for number in range(12):
            assert await clients[number % 3].call(f"i{number}", "calls") == (200, 3)
        held = [(await clients[0].get(f"/v1/instances/i{number}"))[1] for number in range(12)]
        assert len({info["host"] for info in held}) > 1
        assert {info["epoch"] for info in held} == {1}, "no instance may move between live hosts"


async def test_a_large_value_through_any_host(redis: RedisServer, tmp_path: Path) -> None:
    """Its request and its reply are longer than what one read of a connection gives."""
    file = manifest(tmp_path / "w.yaml", redis.url)
    value = base64.b64encode(random.Random(1).randbytes(700_000)).decode()
    async with local_host(file, tmp_path / "1", host="one", base=Path("/")) as (_, one):
        async with local_host(file, tmp_path / "2", host="two", base=Path("/")) as (_, two):
            await acquainted(one, two)
            for number in range(4):
                assert await one.call(f"i{number}", "set", "b", f"k{number}", value) == (200, None)
                assert await two.call(f"i{number}", "get", "b", f"k{number}") == (200, value)
            held = [(await one.get(f"/v1/instances/i{number}"))[1] for number in range(4)]
            assert len({info["host"] for info in held}) == 2, "some calls were forwarded by each of the two"


async def test_any_host_accepts_and_controls_any_instance(redis: RedisServer, tmp_path: Path) -> None:
    """An accepted call starts where its instance is; the host that was asked only passes it on."""
    file = manifest(tmp_path / "w.yaml", redis.url)
    async with local_host(file, tmp_path / "1", host="one", base=Path("/")) as (_, one):
        async with local_host(file, tmp_path / "2", host="two", base=Path("/")) as (_, two):
            await acquainted(one, two)
            waiting = {"Prefer": "wait=30"}
            for number in range(12):
                asked, other = (one, two) if number % 2 else (two, one)
                async with asked.session.post(
                    f"{asked.url}/v1/instances/i{number}/functions/set",
                    json=["b", f"k{number}", BLUE],
                    headers={"Prefer": "respond-async"},
                ) as reply:
                    assert (reply.status, reply.headers["Preference-Applied"]) == (202, "respond-async")
                    location = reply.headers["Location"]
                async with other.session.get(other.url + location, headers=waiting) as reply:
                    assert (await reply.json())["state"] == "succeeded"
            held = [(await one.get(f"/v1/instances/i{number}"))[1] for number in range(12)]
            assert {info["host"] for info in held} == {"one", "two"}
            assert {info["epoch"] for info in held} == {1}, "no instance may move between live hosts"
            for number in range(4):
                for client, verb in ((one, "interrupt"), (two, "resume"), (two, "snapshot"), (one, "snapshot")):
                    async with client.session.post(f"{client.url}/v1/instances/i{number}/{verb}") as reply:
                        assert reply.status == 200, (verb, await reply.text())
                        assert reply.headers["Perdure-Host"] == held[number]["host"]
                assert await two.call(f"i{number}", "calls") == (200, 1)


async def test_what_a_host_that_is_gone_accepted_runs_on_the_others(redis: RedisServer, tmp_path: Path) -> None:
    file = manifest(tmp_path / "w.yaml", redis.url)
    at = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)).isoformat()
    async with local_host(file, tmp_path / "1", host="one", base=Path("/")) as (_, stays):
        async with local_host(file, tmp_path / "2", host="two", base=Path("/")) as (_, leaves):
            await acquainted(stays, leaves)
            locations = []
            for number in range(8):
                async with leaves.session.post(
                    f"{leaves.url}/v1/instances/i{number}/functions/set",
                    json=["b", "k", BLUE],
                    headers={"Perdure-Schedule-At": at},
                ) as reply:
                    assert reply.status == 202
                    locations.append(reply.headers["Location"])
        for location in locations:
            async with stays.session.get(stays.url + location, headers={"Prefer": "wait=30"}) as reply:
                assert (await reply.json())["state"] == "succeeded"
        assert await stays.call("i0", "calls") == (200, 1)


async def test_a_drained_host_hands_its_instances_over(redis: RedisServer, tmp_path: Path) -> None:
    file = manifest(tmp_path / "w.yaml", redis.url)
    async with local_host(file, tmp_path / "1", host="one", base=Path("/")) as (_, stays):
        async with local_host(file, tmp_path / "2", host="two", base=Path("/")) as (_, leaves):
            await acquainted(stays, leaves)
            for number in range(8):
                assert await leaves.call(f"i{number}", "set", "b", "k", BLUE) == (200, None)
        for number in range(8):
            assert await stays.call(f"i{number}", "calls") == (200, 1)


async def test_a_store_that_goes_away_comes_back(tmp_path: Path) -> None:
    with redis_server() as server:
        file = manifest(tmp_path / "w.yaml", server.url)
        async with local_host(file, tmp_path / "1", base=Path("/")) as (host, client):
            assert await client.call("a", "set", "b", "k", BLUE) == (200, None)
            server.stop()
            status, problem = await client.call("a", "set", "b", "k", "AAAA", key="during")
            assert (status, problem["code"]) == (503, "provider-unavailable")
            for path, method in (
                ("functions/calls", "POST"),
                ("invocations/k", "GET"),
                ("reset", "POST"),
                ("check", "GET"),
            ):
                async with client.session.request(
                    method, f"{host.url}/v1/instances/a/{path}", json=[], headers={"Prefer": "respond-async"}
                ) as reply:
                    assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1, path
            assert "shared" in await readiness(client, 503)
            async with client.session.get(host.metrics_url + "/healthz") as reply:
                assert reply.status == 200
            server.start()
            assert await retry(client, "a", "set", "b", "k", "AAAA", key="during") is None
            assert await client.call("a", "calls") == (200, 2)
            await readiness(client, 200)
