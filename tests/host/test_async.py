"""Asynchronous calls over HTTP: accepted, scheduled, repeated, looked at, cancelled, given up, and what is refused."""

from __future__ import annotations

import asyncio
import datetime
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.guests import COMPILED, guest
from support.hosts import Client, HostProcess, local_host

ASYNC = {"Prefer": "respond-async"}
MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: trouble}
spec:
  component: {url: "file:trouble.wasm"}
  limits: {invocationTimeout: 10s, maxPendingPerInstance: 3}
  retry: {maxAttempts: 2, initialInterval: 100ms, maxInterval: 200ms}
"""


@asynccontextmanager
async def host(directory: Path, grace: float = 2.0) -> AsyncIterator[Client]:
    manifest = directory / "worker.yaml"
    manifest.write_text(MANIFEST)
    async with local_host(
        manifest, directory / "data", base=guest("trouble").parent, cache=COMPILED, grace=grace
    ) as pair:
        yield pair[1]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with host(tmp_path) as made:
        yield made


Reply = tuple[int, Any, dict[str, str]]
"""Status, JSON, headers."""


async def post(client: Client, path: str, *args: object, **headers: str) -> Reply:
    return await send(client, path, json.dumps(args).encode(), Content_Type="application/json", **headers)


async def send(client: Client, path: str, body: bytes, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.session.post(client.url + path, headers=named, data=body) as reply:
        return reply.status, await reply.json(content_type=None), dict(reply.headers)


async def accept(client: Client, name: str, function: str, *args: object, **headers: str) -> Reply:
    return await post(client, f"/v1/instances/{name}/functions/{function}", *args, **{**ASYNC, **headers})


async def ended(client: Client, location: str) -> Any:
    async with client.session.get(client.url + location, headers={"Prefer": "wait=30"}) as reply:
        assert reply.status == 200
        return await reply.json()


async def until(client: Client, location: str, **wanted: object) -> Any:
    async with asyncio.timeout(30):
        while True:
            _, found = await client.get(location)
            assert isinstance(found, dict)
            if all(found.get(name) == value for name, value in wanted.items()):
                return found
            await asyncio.sleep(0.05)


def later(seconds: float) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)).isoformat()


async def test_an_accepted_call_runs_and_its_result_is_there(client: Client) -> None:
    status, document, headers = await accept(client, "a", "sleep", 300)
    assert status == 202
    key = document["key"]
    assert (document["state"], document["function"]) == ("pending", "perdure:trouble/trouble.sleep")
    assert headers["Location"] == f"/v1/instances/a/invocations/{key}"
    assert headers["Preference-Applied"] == "respond-async" and "Idempotency-Replayed" not in headers
    assert await ended(client, headers["Location"]) == {"key": key, "state": "succeeded", "result": 1}
    assert await client.call("a", "counted") == (200, 1)


async def test_a_key_of_the_callers_own_and_names_of_any_characters(client: Client) -> None:
    one = "/v1/instances/a%2Fb%20%3F%7Bc%7D"
    status, document, headers = await post(
        client, f"{one}/functions/sleep", 1, **ASYNC, Idempotency_Key="order/17 &?{}"
    )
    assert (status, document["key"]) == (202, "order/17 &?{}")
    assert headers["Location"] == f"{one}/invocations/order%2F17%20%26%3F%7B%7D"
    assert (await ended(client, headers["Location"]))["result"] == 1
    for part in ("", "/invocations", "/journal", "/check"):
        assert (await client.get(one + part))[0] == 200, part
    assert (await post(client, f"{one}/reset"))[0] == 200


async def test_calls_of_one_instance_run_in_their_order_and_once_each(client: Client) -> None:
    locations = []
    for number in range(3):
        status, _, headers = await accept(client, "a", "sleep", 20, Idempotency_Key=f"k{number}")
        assert status == 202
        locations.append(headers["Location"])
    assert [(await ended(client, location))["result"] for location in locations] == [1, 2, 3]


async def test_the_same_key_again(client: Client) -> None:
    """While it waits, while it runs and after its end: accepted once more, carried out once."""
    keyed = {"Idempotency_Key": "one"}
    _, _, headers = await accept(client, "a", "sleep", 1500, **keyed)
    for state in ("pending", "running"):
        status, document, again = await accept(client, "a", "sleep", 1500, **keyed)
        assert (status, again["Location"], again["Idempotency-Replayed"]) == (202, headers["Location"], "true")
        assert document["state"] in (state, "running")
        await until(client, headers["Location"], state="running")
    await ended(client, headers["Location"])
    status, document, again = await accept(client, "a", "sleep", 1500, **keyed)
    assert (status, document, again["Idempotency-Replayed"]) == (
        202, {"key": "one", "state": "succeeded", "result": 1}, "true",
    )  # fmt: skip
    # A synchronous call of the same key gets the result, another call under it a refusal.
    assert await client.call("a", "sleep", 1500, key="one") == (200, 1)
    for status, problem, _ in (
        await accept(client, "a", "sleep", 5, **keyed),
        await accept(client, "a", "counted", **keyed),
    ):
        assert (status, problem["code"]) == (409, "idempotency-conflict")
    assert await client.call("a", "counted") == (200, 1)


async def test_a_synchronous_call_of_a_pending_key_does_not_run_it_twice(client: Client) -> None:
    _, _, headers = await accept(client, "a", "sleep", 1, Idempotency_Key="one", Perdure_Schedule_At=later(600))
    assert await client.call("a", "sleep", 1, key="one") == (200, 1)
    assert (await ended(client, headers["Location"]))["result"] == 1
    assert (await client.get("/v1/instances/a/invocations"))[1] == {"invocations": []}
    assert await client.call("a", "counted") == (200, 1)


async def test_a_scheduled_call_waits_for_its_time(client: Client) -> None:
    begun = time.time()
    status, document, headers = await post(client, "/v1/instances/a/functions/sleep", 1, Perdure_Schedule_At=later(3))
    assert status == 202 and "Preference-Applied" not in headers
    due = datetime.datetime.fromisoformat(document["due"]).timestamp()
    assert due > begun + 2
    assert (await client.get(headers["Location"]))[1]["state"] == "pending"
    assert await client.call("a", "counted") == (200, 0)
    await ended(client, headers["Location"])
    assert time.time() >= due


async def test_a_time_that_is_over_is_now(client: Client) -> None:
    status, _, headers = await post(
        client, "/v1/instances/a/functions/sleep", 1, Perdure_Schedule_At="2001-01-01T00:00:00+02:00"
    )
    assert status == 202 and (await ended(client, headers["Location"]))["result"] == 1


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2030-01-31", "2030-01-31T09:00:00", "2030-13-01T00:00:00Z", "in:30s"]
)
async def test_a_time_that_is_none_is_refused(client: Client, text: str) -> None:
    status, problem, _ = await post(client, "/v1/instances/a/functions/counted", Perdure_Schedule_At=text)
    assert (status, problem["code"]) == (400, "bad-request")
    assert "Perdure-Schedule-At" in problem["detail"] and "2030-01-31T09:00:00Z" in problem["detail"]


@pytest.mark.parametrize(
    ("function", "raw", "code"),
    [
        ("sleep", b'["x"]', "type-mismatch"),
        ("sleep", b"{", "bad-request"),
        ("nope", b"[]", "no-such-function"),
    ],
)
async def test_what_could_never_run_is_not_accepted(client: Client, function: str, raw: bytes, code: str) -> None:
    _, problem, _ = await send(client, f"/v1/instances/a/functions/{function}", raw, **ASYNC)
    assert problem["code"] == code
    assert (await client.get("/v1/instances/a/invocations"))[1] == {"invocations": []}


async def test_a_full_inbox_refuses(client: Client) -> None:
    at = {"Perdure_Schedule_At": later(600)}
    for number in range(3):
        assert (await accept(client, "a", "counted", Idempotency_Key=str(number), **at))[0] == 202
    status, problem, headers = await accept(client, "a", "counted", **at)
    assert (status, problem["code"]) == (429, "overloaded")
    assert "maxPendingPerInstance" in problem["detail"] and int(headers["Retry-After"]) >= 1
    # A known call is no new one, and another instance has an inbox of its own.
    assert (await accept(client, "a", "counted", Idempotency_Key="0", **at))[0] == 202
    assert (await accept(client, "b", "counted", **at))[0] == 202
    found = (await client.get("/v1/instances/a/invocations?limit=2"))[1]["invocations"]
    assert [call["key"] for call in found] == ["0", "1"]


async def test_a_pending_call_is_taken_back(client: Client) -> None:
    _, _, headers = await accept(client, "a", "sleep", 1, Idempotency_Key="one", Perdure_Schedule_At=later(600))
    url = client.url + headers["Location"]
    async with client.session.delete(url) as reply:
        assert (reply.status, await reply.json()) == (200, {"key": "one", "state": "cancelled"})
    for request in (client.session.delete(url), client.session.get(url)):
        async with request as reply:
            assert (reply.status, (await reply.json())["code"]) == (404, "no-such-invocation")
    _, _, headers = await accept(client, "a", "sleep", 1, Idempotency_Key="one")
    await ended(client, headers["Location"])
    async with client.session.delete(url) as reply:
        assert (reply.status, (await reply.json())["code"]) == (409, "not-cancellable")
    assert await client.call("a", "counted") == (200, 1)


async def test_a_call_that_fails_is_tried_again_then_quarantines_and_is_skipped(client: Client) -> None:
    """The failure stays the answer to its key, whoever asks."""
    _, _, headers = await accept(client, "a", "panic", "no luck", Idempotency_Key="bad")
    _, _, behind = await accept(client, "a", "sleep", 1, Idempotency_Key="good")
    async with asyncio.timeout(30):
        while (shown := (await client.get("/v1/instances/a"))[1])["state"] != "Quarantined":
            await asyncio.sleep(0.05)
    assert isinstance(shown, dict)
    assert (shown["key"], shown["pending"]) == ("bad", 1 if shown["pending"] == 1 else 2)
    assert "2 attempts" in shown["reason"] and shown["since"].endswith("Z")
    _, call = await client.get(headers["Location"])
    assert isinstance(call, dict)
    assert (call["state"], call["attempts"]) == ("pending", 2)
    assert "quarantined" in call["blocked"] and call["failure"]["code"] == "guest-trapped"
    status, problem = await client.call("a", "counted")
    assert (status, problem["code"]) == (503, "quarantined")
    status, after, _ = await post(client, "/v1/instances/a/skip")
    assert (status, after["state"]) == (200, "Active")
    assert await ended(client, behind["Location"]) == {"key": "good", "state": "succeeded", "result": 1}
    failed = await ended(client, headers["Location"])
    assert (failed["state"], failed["failure"]["code"]) == ("failed", "skipped")
    status, problem = await client.call("a", "panic", "no luck", key="bad")
    assert isinstance(problem, dict)
    assert (status, problem["code"], problem["cause"]) == (500, "call-failed", "skipped")
    _, again, replayed = await accept(client, "a", "panic", "no luck", Idempotency_Key="bad")
    assert (again["state"], replayed["Idempotency-Replayed"]) == ("failed", "true")


async def test_waiting_for_a_call_is_bounded(client: Client) -> None:
    _, _, headers = await accept(client, "a", "counted", Perdure_Schedule_At=later(600))
    begun = time.monotonic()
    async with client.session.get(client.url + headers["Location"], headers={"Prefer": "wait=1"}) as reply:
        assert (reply.status, (await reply.json())["state"]) == (200, "pending")
        assert reply.headers["Preference-Applied"] == "wait=1"
    assert 0.9 < time.monotonic() - begun < 20
    async with client.session.get(
        client.url + "/v1/instances/a/invocations/none", headers={"Prefer": "wait=30"}
    ) as reply:
        assert reply.status == 404


async def test_a_draining_host_lets_go_of_those_who_wait(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        async with host(tmp_path, grace=20.0) as client:
            _, _, headers = await accept(client, "a", "counted", Perdure_Schedule_At=later(600))
            waiting = asyncio.ensure_future(
                session.get(client.url + headers["Location"], headers={"Prefer": "wait=60"})
            )
            for _ in range(3):
                # Longer ways than that of the request that waits.
                assert (await client.get(headers["Location"]))[1]["state"] == "pending"
            begun = time.monotonic()
        async with await waiting as reply:
            assert (await reply.json())["state"] == "pending"
    assert time.monotonic() - begun < 15


async def test_what_was_accepted_runs_on_the_host_that_comes_next(tmp_path: Path) -> None:
    """The negative control is the call that was taken back."""
    async with host(tmp_path) as client:
        keys = [str(uuid.uuid4()) for _ in range(3)]
        for key in keys:
            assert (await accept(client, f"i-{key}", "sleep", 1, Idempotency_Key=key, Perdure_Schedule_At=later(2)))[
                0
            ] == 202
        async with client.session.delete(f"{client.url}/v1/instances/i-{keys[0]}/invocations/{keys[0]}") as reply:
            assert reply.status == 200
    async with host(tmp_path) as client:
        for key in keys[1:]:
            assert (await ended(client, f"/v1/instances/i-{key}/invocations/{key}"))["result"] == 1
        assert await client.call(f"i-{keys[0]}", "counted") == (200, 0)


async def test_what_happens_is_counted(tmp_path: Path) -> None:
    manifest = tmp_path / "worker.yaml"
    manifest.write_text(MANIFEST)
    base = guest("trouble").parent
    at = {"Idempotency_Key": "one", "Perdure_Schedule_At": later(600)}
    async with local_host(manifest, tmp_path / "data", base=base, cache=COMPILED) as (running, client):
        _, _, headers = await accept(client, "a", "sleep", 1, **at)
        await accept(client, "a", "sleep", 1, **at)
        await accept(client, "a", "counted", **at)
        async with client.session.delete(client.url + headers["Location"]):
            pass
        _, _, headers = await accept(client, "a", "sleep", 1)
        await ended(client, headers["Location"])
        async with client.session.get(running.metrics_url + "/metrics") as reply:
            families = text_string_to_metric_families(await reply.text())
        found = {
            (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
        }
    counts = {outcome: found.get(("perdure_async_calls_total", outcome)) for outcome in
              ("accepted", "pending", "conflict", "cancelled", "full")}  # fmt: skip
    assert counts == {"accepted": 2, "pending": 1, "conflict": 1, "cancelled": 1, "full": None}
    assert found["perdure_async_attempts_total", "succeeded"] == 1
    assert found["perdure_instances_quarantined",] == found["perdure_ownership_conflicts_total",] == 0


async def test_a_host_that_dies_right_after_accepting(tmp_path: Path) -> None:
    """The caller got no reply and sends the call again; it is carried out once. The control: before, nothing was."""
    manifest = tmp_path / "worker.yaml"
    manifest.write_text(MANIFEST.replace("file:trouble.wasm", f"file:{guest('trouble')}"))
    process = HostProcess(manifest, tmp_path / "data")
    path = "/v1/instances/a/functions/sleep"
    try:
        process.start(PERDURE_FAULTPOINT="accept.after:1")
        async with aiohttp.ClientSession() as session:
            client = Client(process.url, session)
            assert (await client.get("/v1/instances/a/invocations/one"))[0] == 404
            with pytest.raises(aiohttp.ClientError):
                await post(client, path, 1, **ASYNC, Idempotency_Key="one")
            process.wait()
        process.start()
        async with aiohttp.ClientSession() as session:
            client = Client(process.url, session)
            assert (await ended(client, "/v1/instances/a/invocations/one"))["result"] == 1
            status, document, _ = await post(client, path, 1, **ASYNC, Idempotency_Key="one")
            assert (status, document["state"]) == (202, "succeeded")
            assert await client.call("a", "counted") == (200, 1)
    finally:
        process.stop()
