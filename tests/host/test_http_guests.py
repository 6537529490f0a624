"""wasi:http/incoming-handler: requests to a guest are durable invocations, through the same routing as any call."""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from support.guests import COMPILED, guest
from support.hosts import EXAMPLE, Client, HostProcess, acquainted, local_host
from support.servers import RedisServer
from support.web import Shop, shop_server

WORKER = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: NAME}
spec:
  component: {url: "file:COMPONENT"}
  limits: {maxBodyBytes: 400Ki, invocationTimeout: 10s}
  http: {allow: ["127.0.0.1:PORT"]}
"""
SHARED = """
---
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: shared}
spec: {default: true, redis: {url: "URL", timeout: 1s}}
"""


def manifest(path: Path, *, component: Path | None = None, url: str | None = None, port: int = 1) -> Path:
    text = WORKER.replace("COMPONENT", str(component or guest("web"))).replace("NAME", "w" + uuid.uuid4().hex[:8])
    path.write_text(text.replace("PORT", str(port)) + (SHARED.replace("URL", url) if url else ""))
    return path


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with local_host(manifest(tmp_path / "w.yaml"), tmp_path / "data", base=Path("/"), cache=COMPILED) as (
        _,
        made,
    ):
        yield made


async def ask(
    client: Client, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[aiohttp.ClientResponse, str]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.session.request(
        method,
        URL(client.url + path, encoded=True),
        data=body,
        headers=sent,
        skip_auto_headers=["Accept", "Accept-Encoding", "User-Agent", "Content-Type"],
    ) as reply:
        return reply, (await reply.read()).decode("utf-8", "replace")


async def test_a_request_is_an_invocation(client: Client) -> None:
    for number in (1, 2):
        reply, text = await ask(client, "/http/alice/count")
        assert (reply.status, text) == (200, f"{number} {number}")
        assert reply.headers["Content-Type"] == "text/plain" and reply.headers["Perdure-Host"] == "host-1"
    # The other instance has its own memory, and the bucket in common.
    assert (await ask(client, "/http/bob/count"))[1] == "3 1"
    assert await client.call("alice", "memory") == (200, 2)
    status, journal = await client.get("/v1/instances/alice/journal")
    assert status == 200 and "incoming-handler" in json.dumps(journal)


async def test_what_the_guest_sees(client: Client) -> None:
    reply, text = await ask(
        client, "/http/al%20ice/echo?a=%2F&b=%20", "PATCH", b"data", x_mine="1", Cookie="a=b", Connection="x-secret, close",
        x_secret="s", TE="trailers", Perdure_Forwarded="nobody", Idempotency_Key="k",
    )  # fmt: skip
    lines = text.split("\n")
    assert reply.status == 201
    assert lines[0] == "Method::Patch" and lines[1] == "/echo?a=%2F&b=%20"
    assert lines[2] == client.url.removeprefix("http://") and lines[-1] == "data"
    named = {line.partition(":")[0].lower() for line in lines[3:-1]}
    assert named == {"x-mine", "cookie", "idempotency-key", "content-length"}
    assert reply.headers.getall("X-Two") == ["1", "2"]
    # A body that is packed is the guest's to unpack.
    packed = zlib.compress(b"data" * 20)
    _, text = await ask(client, "/http/alice/echo", "POST", packed, Content_Encoding="deflate")
    assert "content-encoding: deflate" in text.lower() and text.endswith(packed.decode("utf-8", "replace"))
    assert (await ask(client, "/http/%ff/count"))[0].status == 400
    assert "/echo?a=%ff" in (await ask(client, "/http/alice/echo?a=%ff"))[1], "what is behind the name is the guest's"


@pytest.mark.parametrize("path", ["/http/alice", "/http/alice/", "/http/alice/else", "/http/alice/..%2Fcount"])
async def test_other_paths(client: Client, path: str) -> None:
    assert (await ask(client, path))[0].status == 404
    assert (await ask(client, "/http/alice/count"))[1] == "1 1", "each of them was carried out"


async def test_answers_of_every_kind(client: Client) -> None:
    reply, text = await ask(client, "/http/alice/nothing")
    assert (reply.status, text) == (204, "")
    reply, text = await ask(client, "/http/alice/large")
    assert (reply.status, len(text)) == (200, 300_000)
    reply, text = await ask(client, "/http/alice/count", "HEAD")
    assert (reply.status, text, reply.headers["Content-Length"]) == (200, "", "3")
    reply, text = await ask(client, "/http/alice/error")
    found = json.loads(text)
    assert (reply.status, found["code"], found["retryable"]) == (500, "guest-http-error", False) and "told to" in text
    assert set(found) == {"type", "title", "status", "code", "detail", "retryable"}


@pytest.mark.parametrize(
    ("path", "trap"), [("silent", "no-response"), ("half", "no-response"), ("panic", "unreachable")]
)
async def test_a_guest_that_does_not_answer(client: Client, path: str, trap: str) -> None:
    reply, text = await ask(client, f"/http/alice/{path}")
    found = json.loads(text)
    assert (reply.status, found["code"], found["trap"]) == (500, "guest-trapped", trap)
    assert (await ask(client, "/http/alice/count"))[1] == "1 1"


async def test_one_key_is_one_request(client: Client) -> None:
    first, text = await ask(client, "/http/alice/count", "POST", b"x", Idempotency_Key="k", Traceparent="one")
    again, same = await ask(client, "/http/alice/count", "POST", b"x", Idempotency_Key="k", Traceparent="two")
    assert text == same == "1 1" and (first.status, again.status) == (200, 200)
    assert "Idempotency-Replayed" not in first.headers and again.headers["Idempotency-Replayed"] == "true"
    for path, method, body in (("count?a", "POST", b"x"), ("count", "PUT", b"x"), ("count", "POST", b"y")):
        reply, text = await ask(client, f"/http/alice/{path}", method, body, Idempotency_Key="k")
        assert (reply.status, json.loads(text)["code"]) == (409, "idempotency-conflict")
    assert (await ask(client, "/http/alice/count"))[1] == "2 2"


async def test_bounds(client: Client) -> None:
    assert (await ask(client, "/http/alice/echo", "POST", bytes(400 << 10)))[0].status == 201
    reply, text = await ask(client, "/http/alice/echo", "POST", bytes((400 << 10) + 1))
    assert (reply.status, json.loads(text)["code"]) == (413, "too-large")
    assert (await ask(client, f"/http/{'x' * 300}/echo"))[0].status == 400
    assert (await ask(client, "/http/alice/echo", x="y" * 9000))[0].status == 400


async def test_the_handler_as_a_function(client: Client) -> None:
    """The same as JSON, which is how hosts pass requests on, and how they are accepted for later."""
    request = {"method": "POST", "path": "/echo", "body": base64.b64encode(b"hi").decode(), "headers": [["x-a", "1"]]}
    path = next(e["name"] for e in (await client.get("/v1/component"))[1]["exports"] if "incoming-handler" in e["name"])
    status, found = await client.call("alice", path, request)
    assert status == 200 and isinstance(found, dict) and found["status"] == 201
    assert base64.b64decode(found["body"]).endswith(b"x-a: 1\nhi")
    target = f"{client.url}/v1/instances/alice/functions/{path}"
    async with client.session.post(target, json=[{"path": "/count"}], headers={"Prefer": "respond-async"}) as reply:
        assert reply.status == 202
        location = reply.headers["Location"]
    async with client.session.get(client.url + location, headers={"Prefer": "wait=10"}) as reply:
        assert base64.b64decode((await reply.json())["result"]["body"]) == b"1 1"
    for wrong in (
        {"method": "G T"}, {"path": "x"}, {"path": "/a b"}, {"authority": "a@b"}, {"body": "%"}, {"scheme": "ftp"},
        {"headers": [["a\nb", "c"]]}, {"headers": [["a", "b\r\nc: d"]]}, {"headers": [["Connection", "x"]]},
        {"headers": [["a", "ж"]]}, {"more": 1}, 7,
    ):  # fmt: skip
        status, problem = await client.call("alice", path, wrong)
        assert status == 422 and problem["parameter"].startswith("request"), wrong


async def test_a_component_without_a_handler(tmp_path: Path) -> None:
    file = manifest(tmp_path / "w.yaml", component=EXAMPLE)
    async with local_host(file, tmp_path / "data", base=Path("/"), cache=COMPILED) as (_, client):
        reply, text = await ask(client, "/http/alice/count")
        assert (reply.status, json.loads(text)["code"]) == (404, "no-such-function")


async def test_through_any_host(redis: RedisServer, tmp_path: Path) -> None:
    file = manifest(tmp_path / "w.yaml", url=redis.url)
    async with AsyncExitStack() as stack:
        clients = [
            (
                await stack.enter_async_context(
                    local_host(file, tmp_path / str(n), host=f"host-{n}", base=Path("/"), cache=COMPILED)
                )
            )[1]
            for n in range(2)
        ]
        await acquainted(*clients)
        hosts = set()
        for number in range(8):
            for at, client in enumerate(clients):
                reply, text = await ask(client, f"/http/i{number}/count", "POST", b"", Idempotency_Key=f"k{at}")
                assert (reply.status, text.split()[1]) == (200, str(at + 1))
                hosts.add(reply.headers["Perdure-Host"])
                assert len(reply.headers.getall("Perdure-Host")) == 1
        assert hosts == {"host-0", "host-1"}
        body = bytes(400 << 10)
        assert {(await ask(client, "/http/i1/echo", "POST", body))[0].status for client in clients} == {201}
        assert {(await ask(client, "/http/i1/panic"))[0].status for client in clients} == {500}


async def test_a_killed_host(tmp_path: Path) -> None:
    """What was answered is there afterwards, and its key still is."""
    async with (
        shop_server() as shop,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
    ):
        process = HostProcess(manifest(tmp_path / "w.yaml", port=shop.port), tmp_path / "data")
        try:
            process.start()
            client = Client(process.url, session)
            assert (await ask(client, "/http/alice/count", "POST", b"", Idempotency_Key="k"))[1] == "1 1"
            assert await _fetched(client, shop) == 200
            process.kill()
            process.wait()
            process.start()
            assert (await ask(client, "/http/alice/count", "POST", b"", Idempotency_Key="k"))[1] == "1 1"
            assert await _fetched(client, shop) == 200
            assert (await ask(client, "/http/alice/count", "POST", b""))[1] == "2 2"
            assert len(shop.requests) == 1, "the answer is in the journal"
        finally:
            process.stop()


async def _fetched(client: Client, shop: Shop) -> int:
    request = {"method": "POST", "url": f"{shop.url}/charge", "headers": [], "body": "", "patience": 0}
    status, found = await client.call("alice", "run", [{"fetch": request}], key="fetch")
    assert status == 200 and isinstance(found, list), found
    return int(found[0]["answer"]["status"])
