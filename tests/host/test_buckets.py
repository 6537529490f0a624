"""Buckets over HTTP: pages, prefixes, values, keys of any characters, and what is not to be seen."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from yarl import URL

from support.hosts import EXAMPLE, Client, local_host
from support.servers import RedisServer

WORKER = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: NAME}
spec:
  component: {url: "file:EXAMPLE"}
  keyValue:
    undeclaredBuckets: Deny
    buckets: [{name: shop}, {name: own, scope: Instance}, {name: "a/b ?", physicalName: other}]
"""
PROVIDER = """
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: shared}
spec: {default: true, redis: {url: "URL"}}
---
"""
ODD = ["", "a:b", "{x}", "a/b}{", "ключ", "🔑", "nul\0inside", "%2F", "*?[", "line\nbreak", "..", "x" * 500]


@pytest.fixture(params=["sqlite", "redis"])
async def client(request: pytest.FixtureRequest, redis: RedisServer, tmp_path: Path) -> AsyncIterator[Client]:
    text = PROVIDER.replace("URL", redis.url) if request.param == "redis" else ""
    file = tmp_path / "w.yaml"
    file.write_text(text + WORKER.replace("NAME", "w" + uuid.uuid4().hex[:8]).replace("EXAMPLE", str(EXAMPLE)))
    async with local_host(file, tmp_path / "d", base=Path("/")) as (_, made):
        yield made


async def put(client: Client, bucket: str, *keys: str, instance: str = "alice") -> None:
    for key in keys:
        value = base64.b64encode(f"value of {key}".encode()).decode()
        assert await client.call(instance, "set", bucket, key, value) == (200, None)


async def listed(client: Client, prefix: str, limit: int) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        path = f"/v1/buckets/shop/keys?limit={limit}&prefix={quote(prefix, safe='')}{cursor}"
        status, page = await client.get(path)
        assert status == 200 and isinstance(page, dict) and len(page["keys"]) <= limit
        found += page["keys"]
        if page["cursor"] is None:
            return found
        cursor = "&cursor=" + quote(page["cursor"], safe="")


async def test_pages_and_prefixes(client: Client) -> None:
    keys = ["", "a", "b", "b/", "b/1", "b/2", "b/3", "b0", "c", "ключ/1", "ключ/2"]
    await put(client, "shop", *keys)
    for limit in (1, 2, 3, 100):
        for prefix in ("", "a", "b", "b/", "b/2", "ключ/", "none", "d"):
            assert await listed(client, prefix, limit) == [key for key in keys if key.startswith(prefix)], prefix
    # A cursor before the prefix is as none, and one behind it finds nothing.
    for cursor, found in (("a", ["b/", "b/1", "b/2", "b/3"]), ("b/2", ["b/3"]), ("c", [])):
        path = f"/v1/buckets/shop/keys?prefix=b/&cursor={quote(cursor, safe='')}"
        assert await client.get(path) == (200, {"keys": found, "cursor": None})


async def test_values_of_keys_of_any_characters(client: Client) -> None:
    await put(client, "shop", *ODD)
    assert await listed(client, "", 4) == sorted(ODD)
    for key in ODD:
        if key == "..":
            # A client of HTTP takes such a segment for the folder above, before anybody is asked.
            continue
        async with client.session.get(_url(client, f"/v1/buckets/shop/keys/{quote(key, safe='')}")) as reply:
            assert (reply.status, await reply.read()) == (200, f"value of {key}".encode())
            assert reply.content_type == "application/octet-stream"


async def test_whose_bucket_it_is(client: Client) -> None:
    await put(client, "own", "k", instance="alice")
    await put(client, "own", "other", instance="bob")
    await put(client, "a/b ?", "k")
    assert await client.get("/v1/buckets/own/keys?instance=alice") == (200, {"keys": ["k"], "cursor": None})
    assert await client.get("/v1/buckets/own/keys?instance=nobody") == (200, {"keys": [], "cursor": None})
    async with client.session.get(_url(client, "/v1/buckets/a%2Fb%20%3F/keys/k")) as reply:
        assert (reply.status, await reply.read()) == (200, b"value of k")
    for path, status, code in (
        ("own/keys", 400, "bad-request"),
        ("shop/keys?instance=alice", 400, "bad-request"),
        ("shop/keys?limit=0", 400, "bad-request"),
        ("none/keys", 404, "no-such-bucket"),
        ("other/keys", 404, "no-such-bucket"),
        ("%1Fpromises/keys?instance=alice", 404, "no-such-bucket"),
        ("shop/keys/none", 404, "no-such-key"),
        ("own/keys/k?instance=bob", 404, "no-such-key"),
    ):
        found, problem = await client.get(f"/v1/buckets/{path}")
        assert isinstance(problem, dict) and (found, problem["code"]) == (status, code), path


def _url(client: Client, path: str) -> URL:
    return URL(client.url + path, encoded=True)
