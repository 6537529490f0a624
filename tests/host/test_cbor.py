"""Calls in CBOR through real hosts: bodies, replies, asynchronous results, and between hosts."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import cbor2
import pytest

from support.guests import COMPILED, guest
from support.hosts import EXAMPLE, Client, acquainted, local_host
from support.servers import RedisServer

CBOR = {"Content-Type": "application/cbor", "Accept": "application/cbor"}
BYTES = bytes(range(256)) * 8


async def post(client: Client, target: str, value: object, **headers: str) -> tuple[int, object, dict[str, str]]:
    """`value`: sent in CBOR, or as the bytes that it is. The reply is read as it says that it is."""
    body = value if isinstance(value, bytes) else cbor2.dumps(value)
    named = CBOR | {name.replace("_", "-"): text for name, text in headers.items()}
    path = f"/v1/instances/{target.replace('.', '/functions/', 1)}"
    async with client.session.post(client.url + path, headers=named, data=io.BytesIO(body)) as reply:
        data = await reply.read()
        read = cbor2.loads(data) if reply.content_type == "application/cbor" else await reply.json(content_type=None)
        return reply.status, read, dict(reply.headers)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with local_host(EXAMPLE, tmp_path, cache=COMPILED) as (_, made):
        yield made


@pytest.fixture
async def values(tmp_path: Path) -> AsyncIterator[Client]:
    async with local_host(guest("values"), tmp_path, cache=COMPILED) as (_, made):
        yield made


async def test_bytes_go_and_come_as_bytes(client: Client) -> None:
    assert (await post(client, "a.set", ["b", "k", BYTES]))[:2] == (200, None)
    status, found, headers = await post(client, "a.get", {"bucket": "b", "key": "k"})
    assert (status, found, headers["Content-Type"]) == (200, BYTES, "application/cbor")
    assert await client.call("a", "get", "b", "k") == (200, base64.b64encode(BYTES).decode())
    # Either way round.
    assert (await post(client, "a.get", ["b", "k"], Accept="*/*"))[1] == base64.b64encode(BYTES).decode()
    raw = b'["b", "k"]'
    assert (await post(client, "a.get", raw, Content_Type="application/json"))[1] == BYTES
    assert (await post(client, "a.calls", b""))[1] == 5


@pytest.mark.parametrize(
    ("function", "value"),
    [
        ("via-u64", (1 << 64) - 1), ("via-s64", -(1 << 63)), ("via-f64", -math.inf), ("via-f64", 0.1), ("via-f32", 1.5),
        ("via-char", "ж"), ("via-bytes", BYTES), ("via-numbers", [0, 1 << 63]), ("via-option", {"some": None}),
        ("via-result", {"err": "green"}), ("via-access", ["read", "share"]), ("via-shape", {"tagged": ["t", 7]}),
        ("via-point", {"x": -3, "y": math.inf, "label": None}), ("via-shape", "empty"), ("via-tuple", [1, "b", 2.0]),
    ],
)  # fmt: skip
async def test_every_kind_of_value(values: Client, function: str, value: object) -> None:
    assert (await post(values, f"i.{function}", [value]))[:2] == (200, value)


async def test_no_number_is_a_float_too(values: Client) -> None:
    status, found, _ = await post(values, "i.via-f64", [math.nan])
    assert status == 200 and isinstance(found, float) and math.isnan(found)


async def test_a_key_is_bound_to_the_call_whatever_its_format(client: Client) -> None:
    text = base64.b64encode(BYTES).decode()
    assert await client.call("a", "set", "b", "k", text, key="one") == (200, None)
    status, found, headers = await post(
        client, "a.set", {"value": BYTES, "key": "k", "bucket": "b"}, Idempotency_Key="one"
    )
    assert (status, found, headers["Idempotency-Replayed"]) == (200, None, "true")
    assert await client.call("a", "calls") == (200, 1)
    # Control: another call under it.
    status, problem, headers = await post(client, "a.set", ["b", "k", BYTES[1:]], Idempotency_Key="one")
    assert isinstance(problem, dict)
    assert (status, problem["code"]) == (409, "idempotency-conflict")
    assert headers["Content-Type"].startswith("application/problem+json")


async def test_what_is_wrong_is_said_and_nothing_runs(client: Client) -> None:
    for body, headers, status, code, said in [
        (["b", "k", "AAAA"], {}, 422, "type-mismatch", "value must be a byte string"),
        (b"\x9b" + b"\xff" * 8, {}, 400, "bad-request", "claims"),
        (cbor2.CBORTag(28, []), {}, 400, "bad-request", "a tag at byte 0"),
        (["b", "k", b""], {"Accept": "text/html"}, 406, "not-acceptable", "Accept takes neither"),
        (["b", "k", b""], {"Content_Type": "application/xml"}, 415, "unsupported-media-type", "the body is application/xml"),
    ]:  # fmt: skip
        found, problem, _ = await post(client, "a.set", body, **headers)
        assert isinstance(problem, dict)
        assert (found, problem["code"]) == (status, code) and said in problem["detail"]
    assert await client.call("a", "calls") == (200, 0)


async def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "worker.yaml"
    spec = f"{{component: {{url: 'file:{EXAMPLE}'}}, limits: {{maxBodyBytes: 1Ki}}}}"
    manifest.write_text(f"apiVersion: perdure.dev/v1alpha1\nkind: Worker\nmetadata: {{name: w}}\nspec: {spec}\n")
    async with local_host(manifest, tmp_path / "data", base=Path("/"), cache=COMPILED) as (_, client):
        assert (await post(client, "a.set", ["b", "k", bytes(900)]))[0] == 200
        status, problem, _ = await post(client, "a.set", ["b", "k", bytes(1024)])
        assert isinstance(problem, dict) and (status, problem["code"]) == (413, "too-large")


async def test_an_asynchronous_result(client: Client) -> None:
    await post(client, "a.set", ["b", "k", BYTES])
    status, accepted, headers = await post(client, "a.get", ["b", "k"], Prefer="respond-async", Idempotency_Key="later")
    assert isinstance(accepted, dict) and status == 202 and accepted["state"] == "pending"
    location = headers["Location"]
    assert location.endswith("/later?function=golem:examples/api.get")

    async def look(path: str, accept: str) -> tuple[int, object]:
        wanted = {"Accept": accept, "Prefer": "wait=30"}
        async with client.session.get(client.url + path, headers=wanted) as reply:
            data = await reply.read()
            return reply.status, cbor2.loads(data) if reply.content_type == "application/cbor" else await reply.json(
                content_type=None
            )

    assert await look(location, "application/cbor") == (200, {"key": "later", "state": "succeeded", "result": BYTES})
    # What function it was is not kept: without it there is JSON.
    bare, text = location.partition("?")[0], base64.b64encode(BYTES).decode()
    assert await look(bare, "application/cbor, */*;q=0.1") == (
        200,
        {"key": "later", "state": "succeeded", "result": text},
    )
    status, problem = await look(bare, "application/cbor")
    assert isinstance(problem, dict) and (status, problem["code"]) == (406, "not-acceptable")
    assert (await look(f"{bare}?function=nope", "application/cbor"))[0] == 404
    # Another function's type, which the result does not fit.
    assert await look(f"{bare}?function=calls", "application/cbor") == (
        200, {"key": "later", "state": "succeeded", "result": text},
    )  # fmt: skip


async def test_any_host_takes_and_gives_it(redis: RedisServer, tmp_path: Path) -> None:
    manifest = tmp_path / "w.yaml"
    manifest.write_text(
        f"apiVersion: perdure.dev/v1alpha1\nkind: KeyValueProvider\nmetadata: {{name: shared}}\n"
        f"spec: {{default: true, redis: {{url: '{redis.url}'}}}}\n---\n"
        "apiVersion: perdure.dev/v1alpha1\nkind: Worker\nmetadata: {name: cbor-hosts}\n"
        f"spec: {{component: {{url: 'file:{EXAMPLE}'}}, keyValue: {{undeclaredBuckets: Allow}}}}\n"
    )
    async with AsyncExitStack() as stack:
        clients = [
            (
                await stack.enter_async_context(
                    local_host(manifest, tmp_path / name, host=name, base=Path("/"), cache=COMPILED)
                )
            )[1]
            for name in ("host-0", "host-1")
        ]
        await acquainted(*clients)
        carried_out = set()
        for number in range(6):
            status, _, headers = await post(clients[0], f"i{number}.set", ["b", f"k{number}", BYTES])
            assert status == 200
            carried_out.add(headers["Perdure-Host"])
            found, value, headers = await post(clients[1], f"i{number}.get", ["b", f"k{number}"])
            assert (found, value, headers["Content-Type"]) == (200, BYTES, "application/cbor")
        assert carried_out == {"host-0", "host-1"}, "some were passed on"
