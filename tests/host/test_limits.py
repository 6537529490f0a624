"""Bounds on time, memory and waiting callers; the end of a host; what is different every time and stays as it was."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from perdure.errors import ManifestError
from support.guests import guest
from support.hosts import Client, HostProcess, local_host
from support.servers import listens

MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: trouble}
spec:
  component: {url: "file:trouble.wasm"}
  limits: {invocationTimeout: TIMEOUT, memory: 16Mi, maxQueuedPerInstance: 2}
  env: [{name: COLOUR, value: blue}]
"""


def write_manifest(directory: Path, timeout: str = "100s") -> Path:
    (directory / "trouble.wasm").symlink_to(guest("trouble"))
    manifest = directory / "worker.yaml"
    manifest.write_text(MANIFEST.replace("TIMEOUT", timeout))
    return manifest


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with local_host(write_manifest(tmp_path), tmp_path / "data") as (_, client):
        yield client


async def problem(client: Client, function: str, *args: object) -> dict[str, object]:
    _, found = await client.call("a", function, *args)
    assert isinstance(found, dict), found
    return found


async def test_time_is_bounded(tmp_path: Path) -> None:
    async with local_host(write_manifest(tmp_path, "1s"), tmp_path / "data") as (_, client):
        for function, *args in (("spin",), ("sleep", 3_600_000)):
            status, found = await client.call("a", str(function), *args)
            assert (status, found["code"]) == (504, "timeout")
        # Neither of the two left anything behind.
        assert await client.call("a", "counted") == (200, 0)


async def test_others_go_on_while_one_spins(client: Client) -> None:
    spinning = asyncio.create_task(client.call("a", "spin"))
    await client.under_way(1)
    for number in range(1, 6):
        assert await client.call("b", "sleep", 1) == (200, number)
    assert not spinning.done(), "the others did not wait for it"
    spinning.cancel()


@pytest.mark.parametrize("milliseconds", [(1 << 64) // 1_000_000, (1 << 64) // 1_000_000 - 60_000])
async def test_a_sleep_that_never_ends(tmp_path: Path, milliseconds: int) -> None:
    """Longer than a clock of 64 bits goes on from now, and to its end."""
    async with local_host(write_manifest(tmp_path, "500ms"), tmp_path / "data") as (_, client):
        assert (await problem(client, "sleep", milliseconds))["code"] == "timeout"
        target = f"{client.url}/v1/instances/a"
        async with client.session.post(
            f"{target}/functions/sleep", json=[milliseconds], headers={"Prefer": "respond-async"}
        ) as reply:
            location = reply.headers["Location"]
        async with asyncio.timeout(60):
            while (await problem(client, "counted")).get("code") != "waiting":
                await asyncio.sleep(0.02)
        async with client.session.post(f"{target}/skip") as reply:
            assert reply.status == 200
        status, call = await client.get(location)
        assert status == 200 and isinstance(call, dict) and call["failure"]["code"] == "skipped"


async def test_memory_is_bounded(client: Client) -> None:
    assert await client.call("a", "allocate", 4) == (200, 4 << 20)
    found = await problem(client, "allocate", 64)
    assert found["code"] == "guest-trapped"
    assert "allocation" in str(found["stderr"])
    assert await client.call("a", "allocate", 1) == (200, 5 << 20), "what the instance had, it has"


async def test_a_bound_that_no_instance_could_keep(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path)
    text = manifest.read_text()
    for size, fits in (("17", True), ("16", False)):
        manifest.write_text(text.replace("memory: 16Mi", f"memory: {int(size) * 64}Ki"))
        try:
            async with local_host(manifest, tmp_path / size) as (_, client):
                assert fits and await client.call("a", "counted") == (200, 0)
        except ManifestError as error:
            assert not fits and error.field == "spec.limits.memory" and "1,114,112 bytes" in error.detail


async def test_traps_are_told_apart(client: Client) -> None:
    # Rust's own stack lies at the beginning of the memory, and ends before wasmtime's does.
    overflow = await problem(client, "recurse", 0)
    assert (overflow["code"], overflow["trap"]) == ("guest-trapped", "memory-out-of-bounds")
    panic = await problem(client, "panic", "no such shelf")
    assert (panic["code"], panic["trap"]) == ("guest-trapped", "unreachable")
    assert "no such shelf" in str(panic["stderr"])
    assert panic["frames"]


async def test_too_many_waiting_callers_are_told_to_come_back(client: Client) -> None:
    url = f"{client.url}/v1/instances/a/functions/sleep"

    async def ask(milliseconds: int) -> tuple[int, str | None]:
        async with client.session.post(url, json=[milliseconds]) as reply:
            return reply.status, reply.headers.get("Retry-After")

    taken = [asyncio.create_task(ask(2000))]
    await client.under_way(1)
    taken += [asyncio.create_task(ask(1)) for _ in range(2)]
    await client.under_way(3)
    for status, retry in await asyncio.gather(*(ask(1) for _ in range(3))):
        assert status == 429 and retry is not None
    assert [status for status, _ in await asyncio.gather(*taken)] == [200, 200, 200]
    # The control: another instance has a queue of its own, and this one's is free again.
    assert await client.call("b", "sleep", 1) == (200, 1)
    assert await client.call("a", "counted") == (200, 3)


async def test_a_host_that_ends_abandons_calls_that_nobody_waits_for(tmp_path: Path) -> None:
    host = HostProcess(write_manifest(tmp_path), tmp_path / "data")
    host.start(options=("--grace", "0.2"))
    try:
        async with aiohttp.ClientSession() as session:
            client = host.client(session)
            call = asyncio.create_task(client.call("a", "spin"))
            await client.under_way(1)
            call.cancel()
            await asyncio.wait([call])
            host.kill(signal.SIGTERM)
            assert await asyncio.to_thread(host.wait) == 0
    finally:
        host.stop()


async def test_only_the_variables_of_the_manifest_reach_the_guest(tmp_path: Path) -> None:
    host = HostProcess(write_manifest(tmp_path), tmp_path / "data")
    host.start(SECRET="not for guests")
    try:
        async with aiohttp.ClientSession() as session:
            client = host.client(session)
            assert await client.call("a", "variable", "COLOUR") == (200, "blue")
            for name in ("SECRET", "PATH"):
                assert await client.call("a", "variable", name) == (200, None)
        host.kill()
        host.wait()
        host.manifest.write_text(host.manifest.read_text().replace("blue", "red"))
        host.start()
        async with aiohttp.ClientSession() as session:
            client = Client(host.url, session)
            # Memory stays as it was; whoever begins later gets what there is now.
            assert await client.call("a", "variable", "COLOUR") == (200, "blue")
            assert await client.call("b", "variable", "COLOUR") == (200, "red")
    finally:
        host.stop()


async def test_clock_and_randomness_are_replayed_as_they_were(tmp_path: Path) -> None:
    host = HostProcess(write_manifest(tmp_path), tmp_path / "data")
    host.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = host.client(session)
            drawn = [(await client.call("a", "draw"))[1] for _ in range(3)]
            assert len({json.dumps(pair) for pair in drawn}) == 3
        host.kill()
        host.wait()
        host.start()
        async with aiohttp.ClientSession() as session:
            client = host.client(session)
            assert await client.call("a", "drawn") == (200, drawn)
            status, later = await client.call("a", "draw")
            assert status == 200 and later[0] > drawn[-1][0]
            # The control: another instance draws for itself.
            assert (await client.call("b", "draw"))[1] not in drawn
    finally:
        host.stop()


@pytest.mark.parametrize("grace", ["600", "0.2"])
async def test_a_host_that_is_told_to_end(grace: str, tmp_path: Path) -> None:
    """Within the grace period a running call is finished. Beyond it, it is cut off; a long sleep is a gate, from which
    the call goes on when its instance is opened next."""
    manifest = write_manifest(tmp_path)
    host = HostProcess(manifest, tmp_path / "data")
    host.start(options=("--grace", grace))
    try:
        async with aiohttp.ClientSession() as session:
            client = host.client(session)
            assert await client.call("a", "sleep", 1, key="one") == (200, 1)
            call = asyncio.create_task(client.call("a", "sleep", 3000, key="two"))
            await client.under_way(1)
            host.kill(signal.SIGTERM)
            if grace == "600":
                assert await call == (200, 2)
            else:
                with pytest.raises(aiohttp.ClientError):
                    await call
            assert await asyncio.to_thread(host.wait) == 0
            host.start()
            assert await client.call("a", "counted") == (200, 2)
            # Repeated under its key it is answered as it was.
            assert await client.call("a", "sleep", 3000, key="two") == (200, 2)
            assert await client.call("a", "counted") == (200, 2)
    finally:
        host.stop()


def test_a_host_whose_port_is_taken_is_not_taken_for_it(tmp_path: Path) -> None:
    """What answers there while it starts is somebody else's host, as when two runs of the tests draw one number."""
    first = HostProcess(write_manifest(tmp_path), tmp_path / "first")
    second = HostProcess(first.manifest, tmp_path / "second", port=first.port)
    try:
        first.start()
        with pytest.raises(AssertionError, match="ended while it started"):
            second.start()
        assert listens(first.process.pid if first.process else 0, first.port)
    finally:
        first.stop()
        second.stop()


async def test_nothing_remains_of_a_call_that_was_cut_off_before_a_gate(tmp_path: Path) -> None:
    host = HostProcess(write_manifest(tmp_path), tmp_path / "data")
    host.start(options=("--grace", "0.2"))
    try:
        async with aiohttp.ClientSession() as session:
            client = host.client(session)
            assert await client.call("a", "sleep", 1, key="one") == (200, 1)
            call = asyncio.create_task(client.call("a", "spin", key="two"))
            await client.under_way(1)
            host.kill(signal.SIGTERM)
            with pytest.raises(aiohttp.ClientError):
                await call
            assert await asyncio.to_thread(host.wait) == 0
            host.start()
            assert await client.call("a", "counted") == (200, 1)
    finally:
        host.stop()


async def test_a_host_that_is_ending_sends_its_peers_calls_back(tmp_path: Path) -> None:
    """So that new hosts take over at once, with their configuration."""
    host = HostProcess(write_manifest(tmp_path), tmp_path / "data")
    host.start(options=("--grace", "600"))
    url = f"{host.url}/v1/instances/b/functions/counted"
    try:
        async with aiohttp.ClientSession() as session:
            client = host.client(session)
            call = asyncio.create_task(client.call("a", "sleep", 3000))
            await client.under_way(1)
            async with session.post(url, json=[], headers={"Perdure-Forwarded": "peer"}) as reply:
                assert reply.status == 200
            host.kill(signal.SIGTERM)
            status = 200
            while status == 200:
                async with session.post(url, json=[], headers={"Perdure-Forwarded": "peer"}) as reply:
                    status = reply.status
            assert (status, reply.headers["Perdure-Leaving"]) == (503, "true")
            # The control: whoever asks directly is answered to the end.
            async with session.post(url, json=[]) as reply:
                assert reply.status == 200
            assert await call == (200, 1)
    finally:
        host.stop()


def test_logs_are_json_lines_with_what_the_guest_says(tmp_path: Path) -> None:
    """In a pod: one object a line, the guest's own lines with its instance; no arguments, no results."""
    manifest = write_manifest(tmp_path)
    host = HostProcess(manifest, tmp_path / "data")
    log = tmp_path / "log"
    with log.open("wb") as stream:
        host.start(options=("--log-level", "info", "--log-format", "json"), stderr=stream)
        try:
            subprocess.run(
                [sys.executable, "-m", "perdure", "invoke", "--url", host.url, "alice", "say", "hello shelf"],
                check=True, env=os.environ, timeout=60,
            )  # fmt: skip
            subprocess.run(
                [sys.executable, "-m", "perdure", "invoke", "--url", host.url, "alice", "variable", "s3same"],
                check=True, env=os.environ, timeout=60,
            )  # fmt: skip
        finally:
            host.stop()
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    said = [line for line in lines if line["message"] == "hello shelf"]
    assert [(line["instance"], line["stream"], line["level"]) for line in said] == [("alice", "stdout", "info")]
    assert "s3same" not in text
