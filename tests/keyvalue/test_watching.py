"""Guests that are told of changes, on hosts: of each generation that has it, over each provider, and when hosts die."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

import perdure.host.watching
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.records import WorkerId
from perdure.errors import ManifestError
from perdure.providers.redis import RedisConfig, RedisStore
from support.guests import COMPILED
from support.hosts import Client, HostProcess, local_host, retry
from support.keyvalue import b64, hosted, manifest_of, provider_of
from support.servers import RedisServer

NEWS: dict[str, object] = {"name": "news", "watch": {"instance": "reader"}}
OPEN = {"undeclaredBuckets": "Allow", "buckets": [NEWS]}


async def lines(client: Client, instance: str = "elsewhere") -> list[str]:
    """What a reader has written down, in its order."""
    _, keys = await client.call(instance, "keys", "seen")
    names = cast("dict[str, list[str]]", keys)["ok"]
    assert names == [f"{number:05}" for number in range(len(names))]
    _, values = await client.call(instance, "get-many", "seen", names)
    return [base64.b64decode(value).decode() for value in cast("dict[str, list[str]]", values)["ok"]]


async def told(client: Client, count: int) -> list[str]:
    """As `lines`, once there are so many; it is looked whether there come more."""
    limit = time.monotonic() + 30
    while len(found := await lines(client)) < count:
        assert time.monotonic() < limit, found
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    return await lines(client)


def by_key(found: list[str]) -> dict[str, list[str]]:
    return {
        key: [line.partition(" [")[0] for line in found if line.startswith(key)] for key in {line[0] for line in found}
    }


@pytest.mark.parametrize(
    ("guest", "kind"),
    [("watch-g2", "memory"), ("watch-g3", "sqlite"), ("watch-g4", "sqlite"), ("watch-g4", "redis"),
     ("watch-g4", "postgres")],
)  # fmt: skip
async def test_an_instance_is_told_what_others_change(
    guest: str, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    provider = provider_of(kind, request, monkeypatch)
    name = "watch-" + uuid.uuid4().hex[:8]
    async with hosted(name, guest, provider, tmp_path, keyValue=OPEN) as client:
        for number in range(3):
            assert await client.call("alice", "set", "news", "a", b64(b"%d" % number)) == (200, {"ok": None})
        assert await client.call("bob", "set-many", "news", [["b", b64(b"\xc3\xa9")], ["c", ""]]) == (200, {"ok": None})
        assert await client.call("alice", "delete", "news", "b") == (200, {"ok": None})
        assert await client.call("alice", "set", "other", "a", b64(b"no news")) == (200, {"ok": None})
        # The reader's own changes are none of its news.
        assert await client.call("reader", "set", "news", "mine", b64(b"1")) == (200, {"ok": None})
        found = await told(client, 6)
        assert by_key(found) == {"a": ["a=0", "a=1", "a=2"], "b": ["b=é", "b gone"], "c": ["c="]}
        # The bucket that it is given is the watched one, as it is when it is told.
        await client.call("alice", "set", "news", "last", b64(b"1"))
        assert (await told(client, 7))[-1] == "last=1 [=1]"
        status, listed = await client.get("/v1/instances/reader/journal")
        assert status == 200
        entries = cast("dict[str, list[dict[str, Any]]]", listed)["entries"]
        assert any("watch" in str(entry["function"]) for entry in entries)


@pytest.mark.parametrize("kind", ["redis", "redis-cluster", "postgres", "sqlite"])
async def test_a_worker_is_told_what_another_one_changes(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Over a bucket of their namespace. Each has a reader, which is told what the other's does."""
    if kind == "redis-cluster":
        provider: dict[str, object] = {"redis": {"url": request.getfixturevalue("redis_nodes")[0].url, "cluster": True}}
    elif kind == "sqlite":
        provider = {"sqlite": {}}
    else:
        provider = provider_of(kind, request, monkeypatch)
    bucket = "shared-" + uuid.uuid4().hex[:8]
    shared = {"name": "news", "physicalName": bucket, "scope": "Namespace", "watch": {"instance": "reader"}}
    clients: list[Client] = []
    async with AsyncExitStack() as stack:
        for guest in ("watch-g4", "watch-g3"):
            folder = tmp_path / guest
            folder.mkdir()
            manifest = manifest_of(
                f"{guest}-{bucket}", guest, provider, folder, {"keyValue": {**OPEN, "buckets": [shared]}}
            )
            host = local_host(manifest, tmp_path / "data", base=Path("/"), cache=COMPILED)
            clients.append((await stack.enter_async_context(host))[1])
        for number in range(3):
            for at, client in enumerate(clients):
                assert await client.call("alice", "set", "news", "ab"[at], b64(b"%d" % number)) == (200, {"ok": None})
        assert await clients[0].call("reader", "set", "news", "c", b64(b"mine")) == (200, {"ok": None})
        everything = {"a": ["a=0", "a=1", "a=2"], "b": ["b=0", "b=1", "b=2"]}
        assert by_key(await told(clients[0], 6)) == everything
        assert by_key(await told(clients[1], 7)) == {**everything, "c": ["c=mine"]}


async def test_hosts_that_share_a_worker_tell_once(redis: RedisServer, tmp_path: Path) -> None:
    manifest = manifest_of("w" + uuid.uuid4().hex, "watch-g4", {"redis": {"url": redis.url}}, tmp_path,
                           {"keyValue": OPEN})  # fmt: skip
    async with AsyncExitStack() as stack:
        clients = [
            (await stack.enter_async_context(
                local_host(manifest, tmp_path / name, host=name, base=Path("/"), cache=COMPILED)))[1]
            for name in ("one", "two")
        ]  # fmt: skip
        writes = [
            clients[number % 2].call(f"i{number % 5}", "set", "news", "a", b64(b"%d" % number)) for number in range(20)
        ]
        assert [status for status, _ in await asyncio.gather(*writes)] == [200] * 20
        found = await told(clients[0], 20)
        assert len(found) == 20 and len({line.partition(" [")[0] for line in found}) == 20


async def started_again(host: HostProcess) -> None:
    """Once it has been killed."""
    assert host.process is not None
    while host.process.poll() is None:
        await asyncio.sleep(0.02)
    await asyncio.to_thread(host.start)


@pytest.mark.parametrize("point", ["watch.sent:3", "watch.told:2", "taken:3", "commit.after:9"])
async def test_a_host_that_is_killed(point: str, tmp_path: Path) -> None:
    """Wherever it dies: every change is told once and in order."""
    host = HostProcess(
        manifest_of("killed", "watch-g4", {"sqlite": {}}, tmp_path, {"keyValue": OPEN}), tmp_path / "data"
    )
    try:
        await asyncio.to_thread(host.start, PERDURE_FAULTPOINT=point)
        again = asyncio.create_task(started_again(host))
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            client = Client(host.url, session)
            for number in range(8):
                value = b64(b"%d" % number)
                written = await retry(
                    client, f"i{number % 3}", "set", "news", "ab"[number % 2], value, key=f"w{number}"
                )
                assert written == {"ok": None}
            await again
            assert by_key(await told(client, 8)) == {
                "a": ["a=0", "a=2", "a=4", "a=6"],
                "b": ["b=1", "b=3", "b=5", "b=7"],
            }
    finally:
        host.stop()


async def test_a_full_feed_is_back_pressure(tmp_path: Path) -> None:
    news = {"name": "news", "watch": {"instance": "reader", "maxChanges": 3}}
    spec = {"keyValue": {**OPEN, "buckets": [news]}}
    async with hosted("full", "watch-g4", {"sqlite": {}}, tmp_path, **spec) as client:
        await client.call("reader", "keys", "seen")
        async with client.session.post(f"{client.url}/v1/instances/reader/interrupt") as reply:
            assert reply.status == 200
        for number in range(3):
            assert await client.call("alice", "set", "news", "a", b64(b"%d" % number)) == (200, {"ok": None})
        target = f"{client.url}/v1/instances/alice/functions/set"
        body = {"bucket": "news", "key": "a", "value": b64(b"3")}
        async with client.session.post(target, json=body, headers={"Idempotency-Key": "w3"}) as reply:
            problem = await reply.json(content_type=None)
            assert (reply.status, problem["code"], problem["retryable"]) == (503, "feed-full", True)
            assert "'news'" in problem["detail"] and int(reply.headers["Retry-After"]) >= 1
        assert await client.call("alice", "get", "news", "a") == (200, {"ok": b64(b"2")})
        async with client.session.post(f"{client.url}/v1/instances/reader/resume") as reply:
            assert reply.status == 200
        await told(client, 3)
        assert await retry(client, "alice", "set", "news", "a", b64(b"3"), key="w3") == {"ok": None}
        assert by_key(await told(client, 4)) == {"a": ["a=0", "a=1", "a=2", "a=3"]}


async def test_what_tells_is_not_for_callers(tmp_path: Path) -> None:
    async with hosted("callers", "watch-g4", {"memory": {}}, tmp_path, keyValue=OPEN) as client:
        for name in ("on-set", "wasi:keyvalue/watcher@0.2.0-draft2.on-delete", "wasi:keyvalue/watcher.on-set"):
            status, problem = await client.call("reader", name, "news", "k", b64(b"v"))
            found = cast("dict[str, str]", problem)
            assert (status, found["code"]) == (404, "no-such-function")
            assert f"{name!r} is not for callers" in found["detail"]
        status, problem = await client.call("alice", "keys", "news", key="watch/news/1")
        assert status == 400 and "must not begin with watch/" in cast("dict[str, str]", problem)["detail"]
        status, document = await client.get("/openapi.json")
        assert status == 200 and not any(
            "watcher" in path for path in cast("dict[str, dict[str, object]]", document)["paths"]
        )


async def test_a_component_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"watch: bucket 'news' is watched, but the component exports no wasi:key"):
        async with hosted("mute", "kv-g4", {"memory": {}}, tmp_path, keyValue=OPEN):
            raise AssertionError("it started")


async def test_a_watch_that_the_manifest_has_no_more_ends(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "w" + uuid.uuid4().hex
    provider: dict[str, object] = {"redis": {"url": redis.url}}
    store = await RedisStore.open(RedisConfig(redis.url), WorkerId("default", name))
    address = BucketAddress(Scope.WORKER, "news")
    async with hosted(name, "watch-g4", provider, tmp_path, keyValue=OPEN):
        assert [watch.bucket for watch in await store.watches()] == [address]
    without = {"undeclaredBuckets": "Allow", "buckets": [{"name": "news"}]}
    async with hosted(name, "watch-g4", provider, tmp_path, keyValue=without):
        assert len(await store.watches()) == 1, "a host of the former manifest may still be there"
    monkeypatch.setattr(perdure.host.watching, "STALE_MS", 0)
    async with hosted(name, "watch-g4", provider, tmp_path, keyValue=without) as client:
        async with asyncio.timeout(10):
            while await store.watches():
                await asyncio.sleep(0.01)
        assert await client.call("alice", "set", "news", "a", b64(b"1")) == (200, {"ok": None})
        assert await store.changes(address, 0, 10) is None
    await store.close()
