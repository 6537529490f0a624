"""A real host process killed with SIGKILL at every fault point, once and again during recovery: exactly once."""

from __future__ import annotations

import asyncio
import base64
import random
import uuid
from pathlib import Path

import aiohttp
import pytest

from perdure.durable.faultpoint import Point
from support.hosts import EXAMPLE, Client, HostProcess, retry
from support.servers import RedisServer

FOREIGN = """
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: shared}
spec: {redis: {url: "URL"}}
---
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: NAME}
spec:
  component: {url: "file:EXAMPLE"}
  keyValue:
    undeclaredBuckets: Allow
    buckets: [{name: far, provider: shared}]
"""


def value(number: int) -> str:
    return base64.b64encode(b"%d" % number).decode()


@pytest.mark.parametrize("point", list(Point))
@pytest.mark.parametrize("hits", [1, 2])
async def test_killed_at_a_fault_point(point: Point, hits: int, redis: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    name = "w" + uuid.uuid4().hex[:8]
    component = tmp_path / "key-value.wasm"
    component.symlink_to(EXAMPLE)
    file.write_text(FOREIGN.replace("URL", redis.url).replace("EXAMPLE", component.name).replace("NAME", name))
    host = HostProcess(file, tmp_path / "data")
    deaths = 0
    try:
        host.start(PERDURE_FAULTPOINT=f"{point.value}:{hits}")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            client = Client(host.url, session)
            for number in range(1, 4):
                key = f"call-{number}"
                try:
                    status, _ = await client.call("demo", "set", "far", "k", value(number), key=key)
                    assert status == 200
                except aiohttp.ClientError:
                    deaths += 1
                    assert host.wait() == -9
                    # The second life is killed too, at its first claim; the third one lives.
                    if deaths == 1 and hits == 1 and point is not Point.CLAIMED:
                        host.start(PERDURE_FAULTPOINT=f"{Point.REPLAYED.value}:1")
                        with pytest.raises(aiohttp.ClientError):
                            await client.call("demo", "set", "far", "k", value(number), key=key)
                        assert host.wait() == -9
                    host.start()
                    await retry(client, "demo", "set", "far", "k", value(number), key=key)
            assert await client.call("demo", "calls") == (200, 3)
            assert await client.call("demo", "get", "far", "k") == (200, value(3))
    finally:
        host.stop()
    expected = 0 if hits == 2 and point in (Point.CLAIMED, Point.REPLAYED) else 1
    assert deaths == expected, "the fault point was not reached as often as expected"


async def test_random_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    host = HostProcess(EXAMPLE, tmp_path / "data")
    host.start()
    acknowledged = 0

    async def killer() -> None:
        for _ in range(6):
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            host.kill()
            host.wait()
            await asyncio.to_thread(host.start)

    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            client = Client(host.url, session)
            killing = asyncio.create_task(killer())
            while not killing.done():
                acknowledged += 1
                await retry(client, "demo", "set", "b", "n", value(acknowledged), key=f"{acknowledged}")
            await killing
            assert await client.call("demo", "calls") == (200, acknowledged), f"seed {seed}"
            assert await client.call("demo", "get", "b", "n") == (200, value(acknowledged)), f"seed {seed}"
    finally:
        host.stop()
    assert acknowledged > 6
