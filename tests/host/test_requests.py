"""What clients send that is no request of ours: paths that are not encoded, bodies that are packed, broken off or held
back, and what is not HTTP at all."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from perdure.host.http import requests
from perdure.host.logs import about_client
from support.guests import COMPILED
from support.hosts import EXAMPLE, Client, local_host

PUT = "PUT /v1/buckets/shop/keys/k HTTP/1.1\r\nHost: h\r\n"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with local_host(EXAMPLE, tmp_path, cache=COMPILED) as (_, made):
        yield made


async def sent(client: Client, *parts: bytes, end: bool = False) -> bytes:
    """What comes back of parts that are sent one by one."""
    reader, writer = await asyncio.open_connection(client.url.split("/")[2].split(":")[0], URL(client.url).port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        if end:
            return b""
        return await asyncio.wait_for(reader.read(4096), 10)
    finally:
        writer.close()


async def keys(client: Client, bucket: str = "shop") -> object:
    status, page = await client.get(f"/v1/buckets/{bucket}/keys")
    assert status == 200 and isinstance(page, dict)
    return page["keys"]


@pytest.mark.parametrize("name", ["%ff", "%C3", "%ED%A0%80", "%", "%zz", "%4", "a%2"])
async def test_a_path_that_is_not_encoded(client: Client, name: str) -> None:
    """Taken as it stands, `%ff` would be the key that others write as `%25ff`."""
    for method, path in (
        ("PUT", f"/v1/buckets/shop/keys/{name}"), ("PUT", f"/v1/buckets/{name}/keys/k"),
        ("GET", f"/v1/buckets/shop/keys?prefix={name}"), ("GET", f"/v1/instances?cursor={name}"),
        ("POST", f"/v1/instances/{name}/functions/calls"), ("GET", f"/http/{name}/x"),
    ):  # fmt: skip
        async with client.session.request(method, URL(client.url + path, encoded=True)) as reply:
            told = await reply.json(content_type=None)
        if path.startswith("/http/"):
            assert told["code"] == "no-such-function", "the example serves no requests"
        else:
            assert (reply.status, told["code"]) == (400, "bad-request"), path
            assert "percent sign" in told["detail"]
    assert await keys(client) == [] and (await client.get("/v1/instances"))[1]["instances"] == []


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "x-gzip", "identity, gzip"])
async def test_a_body_that_is_packed(client: Client, coding: str) -> None:
    for method, path in (
        ("PUT", "/v1/buckets/shop/keys/k"), ("POST", "/v1/instances/a/functions/calls"), ("POST", "/v1/promises/x"),
    ):  # fmt: skip
        for data in (gzip.compress(b"[]"), gzip.compress(b"[]" * 50)[:15], b"[]"):
            async with client.session.request(
                method, client.url + path, data=data, headers={"Content-Encoding": coding}
            ) as reply:
                assert (reply.status, (await reply.json(content_type=None))["code"]) == (415, "unsupported-media-type")
    assert await keys(client) == []
    async with client.session.put(
        client.url + "/v1/buckets/shop/keys/k", data=b"v", headers={"Content-Encoding": "Identity"}
    ) as reply:
        assert reply.status == 204


async def test_a_body_that_does_not_come_whole(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    long = PUT.encode() + b"Content-Length: 9\r\n\r\n"
    chunked = PUT.encode() + b"Transfer-Encoding: chunked\r\n\r\n"
    await sent(client, long, b"half", end=True)
    await sent(client, chunked, b"4\r\nhalf\r\n", end=True)
    monkeypatch.setattr(requests, "PATIENCE", 0.2)
    for begun in ((long, b"half"), (chunked, b"4\r\nhalf\r\n"), (long,), (chunked, b"zz\r\n")):
        answer = await sent(client, *begun)
        assert answer.startswith(b"HTTP/1.1 400") and (b"did not come whole" in answer or b"chunk size" in answer)
    assert await keys(client) == []
    assert "defect" not in caplog.text and not [
        line for line in caplog.records if line.name.startswith("perdure.host.http")
    ]
    # The same in time is a value.
    assert (await sent(client, long, b"half", b" done"))[:12] == b"HTTP/1.1 204"


async def test_bodies_that_are_held_back_are_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_COMING", 3 << 20)
    half = PUT.encode() + b"Content-Length: 1000000\r\n\r\n" + bytes(500_000)
    host = URL(client.url)
    pairs = [await asyncio.open_connection(host.host, host.port) for _ in range(7)]
    try:
        for _, writer in pairs:
            writer.write(half)
            await writer.drain()
        refused = [asyncio.create_task(reader.read(4096)) for reader, _ in pairs]
        done, waiting = await asyncio.wait(refused, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        (answer,) = [task.result() for task in done]
        assert answer.startswith(b"HTTP/1.1 429") and b"Retry-After: 1" in answer and b"overloaded" in answer
        assert len(waiting) == 6
    finally:
        for _, writer in pairs:
            writer.close()
        await asyncio.gather(*refused, return_exceptions=True)
    # Those that are gone hold nothing.
    async with asyncio.timeout(20):
        while (await sent(client, half + bytes(500_000)))[:12] != b"HTTP/1.1 204":
            await asyncio.sleep(0.02)
    async with client.session.get(client.url + "/v1/buckets/shop/keys/k") as reply:
        assert len(await reply.read()) == 1_000_000


@pytest.mark.parametrize(
    "begun",
    [
        f"{PUT}Content-Length: -1",
        f"{PUT}Idempotency-Key: secret\x7f",
        f"{PUT}Content-Length: 1\r\nContent-Length: 2",
        f"{PUT}Authorization: secret{'t' * 20_000}",
        "GET *secret HTTP/1.1\r\nHost: h",
    ],  # fmt: skip
)
async def test_what_is_not_http(client: Client, caplog: pytest.LogCaptureFixture, begun: str) -> None:
    library = logging.getLogger("aiohttp.server")
    library.addFilter(about_client)
    try:
        with caplog.at_level(logging.INFO):
            answer = await sent(client, f"{begun}\r\n\r\n".encode())
    finally:
        library.removeFilter(about_client)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head[9:12] == b"400" and b"Content-Type: application/problem+json" in head
    told = json.loads(body)
    assert (told["status"], told["code"], told["retryable"]) == (400, "bad-request", False)
    assert b"secret" not in body
    (line,) = [line for line in caplog.records if line.name == "aiohttp.server"]
    assert line.levelno == logging.INFO and line.exc_info is None and "secret" not in line.getMessage()
    assert "a request could not be read" in line.getMessage()


async def test_another_error_of_the_library_is_told_whole() -> None:
    try:
        raise RuntimeError("a defect")
    except RuntimeError as error:
        seen = (RuntimeError, error, error.__traceback__)
    line = logging.LogRecord("aiohttp.server", logging.ERROR, "f", 1, "Unhandled", (), seen)
    assert about_client(line) and line.exc_info == seen and line.levelno == logging.ERROR


async def test_other_methods_are_told(client: Client) -> None:
    async with client.session.patch(client.url + "/v1/buckets/shop/keys/k") as reply:
        assert reply.status == 405 and reply.headers["Allow"] == "DELETE,GET,HEAD,PUT"
        assert (await reply.json(content_type=None))["code"] == "method-not-allowed"
