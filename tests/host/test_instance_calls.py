"""Instances that call each other: on one host, over two, and while a host is killed."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import aiohttp

from support.guests import COMPILED, guest
from support.hosts import Client, HostProcess, acquainted, local_host, retry
from support.servers import RedisServer

MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: NAME}
spec:
  component: {url: "file:GUEST"}
  limits: {invocationTimeout: 20s}
  keyValue: {undeclaredBuckets: Allow}
"""
SHARED = """
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: shared}
spec: {default: true, redis: {url: "URL", timeout: 1s}}
---
"""


def written(path: Path, *, url: str | None = None) -> Path:
    text = "" if url is None else SHARED.replace("URL", url)
    path.write_text(text + MANIFEST.replace("NAME", "w" + uuid.uuid4().hex[:8]).replace("GUEST", str(guest("errand"))))
    return path


async def delegate(client: Client, caller: str, *what: str) -> object:
    status, answer = await client.call(caller, "delegate", "near", *what, key=uuid.uuid4().hex)
    assert status == 200, answer
    return answer


async def test_any_instance_calls_any_other_on_any_host(redis: RedisServer, tmp_path: Path) -> None:
    file = written(tmp_path / "w.yaml", url=redis.url)
    async with local_host(file, tmp_path / "1", host="one", base=Path("/"), cache=COMPILED) as (_, one):
        async with local_host(file, tmp_path / "2", host="two", base=Path("/"), cache=COMPILED) as (_, two):
            await acquainted(one, two)
            for number in range(8):
                client = two if number % 2 else one
                answer = await delegate(client, f"a{number}", f"b{number}", "add", '["near", 1]')
                assert answer == {"ok": str(number + 1)}
            hosts = {}
            for name in [f"{side}{number}" for side in "ab" for number in range(8)]:
                hosts[name] = (await one.get(f"/v1/instances/{name}"))[1]["host"]
            assert {hosts[f"a{n}"] == hosts[f"b{n}"] for n in range(8)} == {True, False}
            # What comes of a bad one, and a circle, whichever host has them.
            for number in range(4):
                caller, callee = f"a{number}", f"b{number}"
                for function, arguments, words in (
                    ("nothing", "[]", "no such function: "),
                    ("add", '["near"]', "bad arguments: "),
                    ("add", "[", "bad arguments: the body is not JSON"),
                    ("trap", "[]", "guest-trapped: "),
                ):
                    answer = await delegate(one, caller, callee, function, arguments)
                    assert isinstance(answer, dict) and answer["err"].startswith(words), answer
                back = json.dumps(["near", caller, "add", '["near", 1]'])
                answer = await delegate(two, caller, callee, "delegate", back)
                assert isinstance(answer, dict) and "refused: " in json.loads(answer["ok"])["err"]
            target, bad = f"{one.url}/v1/instances/a0/functions/answered", {"Perdure-Callers": "alice,bob"}
            async with one.session.post(target, data=b"[]", headers=bad) as reply:
                assert (reply.status, (await reply.json(content_type=None))["code"]) == (400, "bad-request")
            answer = await delegate(one, "a0", "", "answered", "[]")
            assert isinstance(answer, dict) and answer["err"].startswith("bad arguments: the instance's name")


async def test_a_host_that_is_killed_between_the_two(tmp_path: Path) -> None:
    """While the one that was called waits: the caller goes on from its gate, and calls again under the same key."""
    process = HostProcess(written(tmp_path / "w.yaml"), tmp_path / "data")
    try:
        process.start(PERDURE_CACHE=str(COMPILED.parent))
        async with aiohttp.ClientSession() as session:
            client = Client(process.url, session)
            promise = (await client.call("p", "promise"))[1]
            what = ("near", "bob", "wait", json.dumps([promise]))
            waits = asyncio.create_task(retry(client, "alice", "delegate", *what, key="one"))
            async with asyncio.timeout(60):
                while (await client.get("/v1/instances/bob"))[0] != 200:
                    await asyncio.sleep(0.02)
            process.kill()
            process.wait()
            process.start(PERDURE_CACHE=str(COMPILED.parent))
            await asyncio.sleep(0.5)
            async with session.post(f"{client.url}/v1/promises/{promise}", data=b"yes") as reply:
                assert reply.status == 200
            assert await waits == {"ok": '{"ok":"eWVz"}'}
            assert await client.call("carol", "add", "near", 0) == (200, 0)
            assert await client.call("alice", "answered") == (200, 1)
            entries = (await client.get("/v1/instances/bob/journal"))[1]["entries"]
            assert [entry["kind"] for entry in entries].count("call") == 1
    finally:
        process.stop()
