"""Guests that expect an instance of their own for every request: `durability.memory: Invocation`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from support.guests import COMPILED, built, guest
from support.hosts import Client, local_host
from support.keyvalue import KINDS, b64

SET = {"keyValue": {"undeclaredBuckets": "Allow"}, "limits": {"memory": "256Mi"}}


def hosted(component: Path, directory: Path, memory: str) -> AbstractAsyncContextManager[Client]:
    """A host of one and the same Worker over SQLite."""
    spec = {**SET, "component": {"url": f"file:{component}"}, "durability": {"memory": memory}}
    manifest = directory / "worker.yaml"
    manifest.write_text(json.dumps({**KINDS, "kind": "Worker", "metadata": {"name": "peer"}, "spec": spec}))

    @asynccontextmanager
    async def running() -> AsyncIterator[Client]:
        async with local_host(manifest, directory / "data", base=Path("/"), cache=COMPILED) as (_, client):
            yield client

    return running()


async def value(client: Client, key: str) -> bytes | None:
    async with client.session.get(f"{client.url}/v1/buckets/default/keys/{key}") as reply:
        return await reply.read() if reply.status == 200 else None


async def end(directory: Path, how: str) -> None:
    """Lets the command end so: another guest of the Worker writes it."""
    async with hosted(guest("kv-g4"), directory, "Instance") as client:
        status, answer = await client.call("other", "set", "default", "end", b64(how.encode()))
        assert (status, answer) == (200, {"ok": None})


@pytest.mark.parametrize(("how", "result"), [("success", {"ok": None}), ("failure", {"err": None})])
async def test_a_command_may_exit(tmp_path: Path, how: str, result: object) -> None:
    await end(tmp_path, how)
    async with hosted(guest("command"), tmp_path, "Invocation") as client:
        for runs in (1, 2):
            assert await client.call("a", "run", key=f"{runs}") == (200, result)
            assert await client.call("a", "run", key=f"{runs}") == (200, result), "the stored result"
            async with client.session.post(f"{client.url}/v1/instances/a/snapshot") as reply:
                assert (reply.status, (await reply.json())["code"]) == (409, "snapshot-refused")
            assert await value(client, "runs") == str(runs).encode()
            assert await value(client, "last") == b"a", "what it wrote after the last gate is there too"


async def test_a_command_runs_again_and_again(tmp_path: Path) -> None:
    async with hosted(guest("command"), tmp_path, "Invocation") as client:
        for _ in range(3):
            assert await client.call("a", "run") == (200, {"ok": None})
        assert await value(client, "runs") == b"3"


async def test_the_control_where_memory_goes_on(tmp_path: Path) -> None:
    async with hosted(guest("command"), tmp_path, "Instance") as client:
        assert await client.call("a", "run") == (200, {"ok": None})
        assert await value(client, "last") == b"a"
    await end(tmp_path, "success")
    async with hosted(guest("command"), tmp_path, "Instance") as client:
        status, answer = await client.call("b", "run")
        assert status == 500 and isinstance(answer, dict) and answer["trap"] == "host-refused"
        assert "the guest called exit (success)" in str(answer["detail"])
        assert await value(client, "last") == b"a", "nothing of it remains but what a gate made durable"


@pytest.mark.parametrize(("how", "function"), [("connect", "wasi:sockets/"), ("bind", "wasi:sockets/")])
async def test_sockets_are_linked_and_refused_by_name(tmp_path: Path, how: str, function: str) -> None:
    await end(tmp_path, how)
    async with hosted(guest("command"), tmp_path, "Invocation") as client:
        status, answer = await client.call("a", "run")
        assert status == 500 and isinstance(answer, dict) and function in str(answer["detail"]), answer


@pytest.mark.timeout(900)
async def test_a_script_is_asked_by_a_fetch_event(tmp_path: Path) -> None:
    script = Path(built("build-web-guest", "event-js"))
    async with hosted(script, tmp_path, "Invocation") as client:
        for body in ("one", "two", "three"):
            async with client.session.post(f"{client.url}/http/a/p/q?x=1", data=body) as reply:
                assert (reply.status, await reply.text()) == (201, f"POST /p/q?x=1 {body}")
                assert reply.headers["x-calls"] == "1"
    async with hosted(script, tmp_path, "Instance") as client:
        for status, said in ((201, "GET /"), (500, "respondWith can't be called twice")):
            async with client.session.get(f"{client.url}/http/b/") as reply:
                assert reply.status == status and said in await reply.text()
