"""The host's HTTP API with the real example over SQLite: what users send, and what they should not."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from perdure.host.app import RunningHost
from support.guests import COMPILED, guest
from support.hosts import EXAMPLE, Client, local_host

BLUE = base64.b64encode(b"blue").decode()
LIMITS = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: strict}
spec:
  component: {url: "file:EXAMPLE"}
  limits: {maxBodyBytes: 2Ki, maxQueuedPerInstance: 1, maxInstancesInMemory: 2}
  keyValue:
    undeclaredBuckets: Deny
    buckets:
      - {name: small, maxValueBytes: 4, maxKeyBytes: 8}
      - {name: fixed, access: ReadOnly}
      - {name: brief, ttl: 300ms}
      - {name: mine, scope: Instance}
      - {name: ours, scope: Worker, physicalName: elsewhere}
"""


BOTH = pytest.mark.parametrize("example", ["committed", "rebuilt"], indirect=True)


@pytest.fixture
def example(request: pytest.FixtureRequest) -> Path:
    """The component that is in the checkout or, for tests marked BOTH, also what cargo makes of its source."""
    return guest("key-value") if getattr(request, "param", "committed") == "rebuilt" else EXAMPLE


@pytest.fixture
async def running(example: Path, tmp_path: Path) -> AsyncIterator[tuple[RunningHost, Client]]:
    async with local_host(example, tmp_path, cache=COMPILED) as pair:
        yield pair


@pytest.fixture
async def client(running: tuple[RunningHost, Client]) -> Client:
    return running[1]


@pytest.fixture
async def strict(example: Path, tmp_path: Path) -> AsyncIterator[Client]:
    manifest = tmp_path / "worker.yaml"
    manifest.write_text(LIMITS.replace("EXAMPLE", str(example)))
    async with local_host(manifest, tmp_path / "data", base=Path("/"), cache=COMPILED) as (_, client):
        yield client


@BOTH
async def test_set_get_and_memory(client: Client) -> None:
    assert await client.call("demo", "get", "shop", "colour") == (200, None)
    assert await client.call("demo", "golem:examples/api.set", "shop", "colour", BLUE) == (200, None)
    assert await client.call("demo", "get", "shop", "colour") == (200, BLUE)
    assert await client.call("demo", "calls") == (200, 3)
    assert await client.call("other", "calls") == (200, 0)
    assert await client.call("other", "get", "shop", "colour") == (200, BLUE)


async def test_arguments_by_name(client: Client) -> None:
    status, _ = await client.call("demo", "set", raw=b'{"bucket": "b", "key": "k", "value": [1, 2]}')
    assert status == 200
    assert await client.call("demo", "get", "b", "k") == (200, base64.b64encode(b"\x01\x02").decode())


@BOTH
async def test_an_idempotency_key_runs_once(client: Client) -> None:
    for _ in range(3):
        assert await client.call("demo", "set", "b", "k", BLUE, key="one") == (200, None)
    assert await client.call("demo", "calls") == (200, 1)
    status, problem = await client.call("demo", "set", "b", "k", "AAAA", key="one")
    assert (status, problem["code"]) == (409, "idempotency-conflict")
    target = f"{client.url}/v1/instances/demo/functions/calls"
    async with client.session.post(target, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]) as reply:
        assert (reply.status, (await reply.json(content_type=None))["code"]) == (400, "bad-request")
    assert await client.call("demo", "calls") == (200, 1)


async def test_concurrent_duplicates_run_once(client: Client) -> None:
    answers = await asyncio.gather(*(client.call("demo", "set", "b", "k", BLUE, key="same") for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert await client.call("demo", "calls") == (200, 1)


@pytest.mark.parametrize(
    ("function", "raw", "status", "code", "said"),
    [
        ("nope", b"[]", 404, "no-such-function", "get"),
        ("get", b"{", 400, "bad-request", "JSON"),
        ("get", b'["b"]', 422, "type-mismatch", "key"),
        ("get", b'["b", 3]', 422, "type-mismatch", "key must be"),
        ("get", b'{"bucket": "b", "kee": "k"}', 422, "type-mismatch", "kee"),
        ("set", b'["b", "k", "not base64!"]', 422, "type-mismatch", "value"),
        ("set", b'["b", "k", [256]]', 422, "type-mismatch", "value[0]"),
        ("set", b'["b", "k", [true]]', 422, "type-mismatch", "value[0]"),
        ("get", b"[" * 100_000, 400, "bad-request", "JSON"),
        ("get", b"\xff\xfe", 400, "bad-request", "JSON"),
        ("get", b'["b", "\xff"]', 400, "bad-request", "UTF-8"),
        ("get", b'{"bucket": "b", "key": "k", "key": "l"}', 400, "bad-request", "'key' comes twice"),
        ("get", b"[%s]" % (b"9" * 5000), 400, "bad-request", "JSON: a number has too many digits"),
        ("get", b"[-Infinity]", 422, "type-mismatch", 'as the string "-Infinity"'),
    ],
)
async def test_bad_input_is_refused_by_name(
    client: Client, function: str, raw: bytes, status: int, code: str, said: str
) -> None:
    found, problem = await client.call("demo", function, raw=raw)
    assert isinstance(problem, dict)
    assert (found, problem["code"]) == (status, code)
    assert said in problem["detail"]
    assert await client.call("demo", "calls") == (200, 0)


async def test_an_oversized_body_is_refused(strict: Client) -> None:
    status, problem = await strict.call("demo", "get", raw=b" " * 4096)
    assert (status, problem["code"]) == (413, "too-large")


async def test_unknown_paths_and_methods_are_problems(running: tuple[RunningHost, Client]) -> None:
    host, client = running
    assert (await client.get("/nowhere"))[0] == 404
    assert (await client.get("/v1/instances/none"))[0] == 404
    async with client.session.delete(host.url + "/v1/instances/none") as reply:
        assert reply.status == 404 and reply.content_type == "application/problem+json"
    async with client.session.put(host.url + "/v1/component") as reply:
        assert reply.status == 405


@BOTH
async def test_bucket_configuration_acts(strict: Client) -> None:
    async def refused(function: str, *args: object) -> str:
        status, problem = await strict.call("a", function, *args)
        assert isinstance(problem, dict)
        assert (status, problem["code"], problem["trap"]) == (500, "guest-trapped", "unreachable")
        return str(problem["stderr"])

    assert "not declared" in await refused("get", "other", "k")
    assert "a value of 5 bytes" in await refused("set", "small", "k", base64.b64encode(b"12345").decode())
    assert "a key of 9 bytes" in await refused("set", "small", "k" * 9, "")
    assert "ReadOnly" in await refused("set", "fixed", "k", "")
    ended, found = 0.0, (0, "")
    while time.monotonic() >= ended:
        ended = time.monotonic() + 0.3
        assert await strict.call("a", "set", "brief", "k", BLUE) == (200, None)
        found = await strict.call("a", "get", "brief", "k")
    assert found == (200, BLUE)
    async with asyncio.timeout(60):
        while await strict.call("a", "get", "brief", "k") != (200, None):
            await asyncio.sleep(0.02)
    assert await strict.call("a", "set", "mine", "k", BLUE) == (200, None)
    assert await strict.call("b", "get", "mine", "k") == (200, None)
    assert await strict.call("a", "set", "ours", "k", BLUE) == (200, None)
    assert await strict.call("b", "get", "ours", "k") == (200, BLUE)


@BOTH
async def test_a_trap_leaves_nothing_behind(strict: Client) -> None:
    assert await strict.call("a", "set", "mine", "k", BLUE) == (200, None)
    status, problem = await strict.call("a", "set", "fixed", "k", BLUE)
    assert status == 500 and problem["frames"]
    assert await strict.call("a", "calls") == (200, 1)
    assert await strict.call("a", "get", "mine", "k") == (200, BLUE)


@BOTH
async def test_eviction_keeps_everything(strict: Client) -> None:
    for name in ("a", "b", "c", "d"):
        assert await strict.call(name, "set", "mine", "k", BLUE) == (200, None)
    for name in ("a", "b", "c", "d"):
        assert await strict.call(name, "calls") == (200, 1)
        assert await strict.call(name, "get", "mine", "k") == (200, BLUE)


async def test_listing_showing_and_deleting(running: tuple[RunningHost, Client]) -> None:
    host, client = running
    for name in ("b", "a", "c%20d"):
        await client.call(name, "set", "s", "k", BLUE)
    assert await client.get("/v1/instances?limit=2") == (200, {"instances": ["a", "b"], "cursor": "b"})
    assert await client.get("/v1/instances?cursor=b") == (200, {"instances": ["c d"], "cursor": None})
    status, shown = await client.get("/v1/instances/a")
    assert status == 200 and shown["sequence"] == 1 and shown["inMemory"] is True
    async with client.session.delete(host.url + "/v1/instances/a") as reply:
        assert reply.status == 204
    assert await client.call("a", "calls") == (200, 0)
    assert (await client.get("/v1/instances?limit=0"))[0] == 400


@BOTH
async def test_component_describes_itself(client: Client) -> None:
    status, found = await client.get("/v1/component")
    assert isinstance(found, dict) and status == 200
    assert found["keyvalue"] == ["G1"]
    assert {export["name"] for export in found["exports"]} == {
        "golem:examples/api.get", "golem:examples/api.set", "golem:examples/api.calls"
    }  # fmt: skip
    assert found["providers"]["local"]["durability"] == "D2"


async def test_metrics_agree_with_what_was_done(running: tuple[RunningHost, Client]) -> None:
    host, client = running
    for _ in range(5):
        await client.call("demo", "get", "b", "k")
    await client.call("demo", "set", "b", "k", BLUE, key="x")
    await client.call("demo", "set", "b", "k", BLUE, key="x")
    async with aiohttp.ClientSession() as session, session.get(host.metrics_url + "/metrics") as reply:
        text = await reply.text()
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    get, set_ = ("function", "golem:examples/api.get"), ("function", "golem:examples/api.set")
    assert found["perdure_invocations_total", (get, ("outcome", "ok"))] == 5
    assert found["perdure_invocations_total", (set_, ("outcome", "ok"))] == 1
    assert found["perdure_invocations_total", (set_, ("outcome", "replayed"))] == 1
    assert found["perdure_commits_total", (("outcome", "applied"),)] == 6
    assert found["perdure_host_calls_total", (("call", "keyvalue.get"),)] == 5
    assert found["perdure_instances_in_memory", ()] == 1
    assert found["perdure_fenced_commits_total", ()] == 0


async def test_health(running: tuple[RunningHost, Client]) -> None:
    host, client = running
    for path in ("/healthz", "/readyz"):
        async with client.session.get(host.metrics_url + path) as reply:
            assert (reply.status, await reply.text()) == (200, "ok\n")
