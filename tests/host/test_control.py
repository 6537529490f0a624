"""What an operator does with an instance over HTTP, and looking inside: state, journal, fsck, the update's dry run."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.guests import COMPILED, guest
from support.hosts import Client, local_host

MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: ledger}
spec:
  component: {url: "file:ledger.wasm"}
  limits: {invocationTimeout: 10s}
"""
RUN = "perdure:ledger/program.run"


@asynccontextmanager
async def host(directory: Path, timeout: str = "10s") -> AsyncIterator[Client]:
    manifest = directory / "worker.yaml"
    manifest.write_text(MANIFEST.replace("10s", timeout))
    async with local_host(manifest, directory / "data", base=guest("ledger").parent, cache=COMPILED) as pair:
        yield pair[1]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with host(tmp_path) as made:
        yield made


async def run(client: Client, name: str, *steps: object, key: str | None = None) -> tuple[int, Any]:
    return await client.call(name, "run", list(steps), key=key)


async def control(client: Client, name: str, verb: str) -> tuple[int, Any]:
    async with client.session.post(f"{client.url}/v1/instances/{name}/{verb}") as reply:
        return reply.status, await reply.json(content_type=None)


async def get(client: Client, path: str) -> Any:
    status, found = await client.get(path)
    assert status == 200, found
    return found


def add(amount: int) -> dict[str, object]:
    return {"remember": amount}


async def test_an_instance_tells_how_it_is(client: Client) -> None:
    assert (await client.get("/v1/instances/a"))[0] == 404
    assert (await run(client, "a", add(1)))[0] == 200
    shown = await get(client, "/v1/instances/a")
    assert (shown["name"], shown["state"], shown["sequence"], shown["pending"]) == ("a", "Active", 1, 0)
    assert shown["component"] == (await get(client, "/v1/component"))["digest"]
    assert (shown["snapshot"], shown["journal"]["entries"], shown["inMemory"]) == (None, 1, True)
    assert "reason" not in shown


async def test_interrupt_and_resume(client: Client) -> None:
    await run(client, "a", add(1))
    status, after = await control(client, "a", "interrupt")
    assert (status, after["state"]) == (200, "Interrupted") and after["since"].endswith("Z")
    status, problem = await run(client, "a", add(1))
    assert (status, problem["code"]) == (409, "interrupted")
    assert (await run(client, "b", add(1)))[0] == 200, "the others are not concerned"
    status, after = await control(client, "a", "resume")
    assert (status, after["state"]) == (200, "Active")
    assert (await run(client, "a", add(1)))[0] == 200
    assert (await client.call("a", "memory"))[1][0] == 2


async def test_interrupt_cuts_off_what_runs_and_what_was_accepted_waits(client: Client) -> None:
    await run(client, "a", add(1))
    spinning = asyncio.ensure_future(run(client, "a", "spin"))
    await client.under_way(1)
    assert (await control(client, "a", "interrupt"))[0] == 200
    headers = {"Prefer": "respond-async", "Idempotency-Key": "later"}
    async with client.session.post(
        f"{client.url}/v1/instances/a/functions/{RUN}", json=[[add(5)]], headers=headers
    ) as reply:
        assert reply.status == 202
    # Not when its time is over: nothing of it runs on.
    status, problem = await spinning
    assert (status, problem["code"]) == (409, "interrupted")
    call = await get(client, "/v1/instances/a/invocations/later")
    assert call["state"] == "pending" and "interrupted" in call["blocked"]
    assert (await control(client, "a", "resume"))[0] == 200
    async with client.session.get(
        f"{client.url}/v1/instances/a/invocations/later", headers={"Prefer": "wait=30"}
    ) as reply:
        assert (await reply.json())["state"] == "succeeded"
    assert (await client.call("a", "memory"))[1][0] == 6


async def test_interrupt_reaches_the_first_call_of_an_instance(client: Client) -> None:
    spinning = asyncio.ensure_future(run(client, "a", "spin"))
    await client.under_way(1)
    assert (await client.get("/v1/instances/a"))[0] == 404, "negative control: the store knows nothing of it"
    status, after = await control(client, "a", "interrupt")
    assert (status, after["state"], after["sequence"]) == (200, "Interrupted", 0)
    status, problem = await spinning
    assert (status, problem["code"]) == (409, "interrupted"), "not when its time is over"
    assert (await get(client, "/v1/instances/a"))["state"] == "Interrupted"
    status, after = await control(client, "a", "resume")
    assert (status, after["state"], after["pending"]) == (200, "Active", 0)
    assert (await client.get("/v1/instances/a"))[0] == 404
    assert (await run(client, "a", add(1)))[0] == 200


async def test_a_call_that_was_cut_off_behind_a_gate_is_done_once(client: Client) -> None:
    def steps(name: str) -> list[object]:
        return [{"add": ["counts", name, 1]}, {"sleep": 1500}, {"add": ["counts", name, 1]}]

    for name, key in (("a", None), ("b", "k")):
        running = asyncio.ensure_future(run(client, name, *steps(name), key=key))
        while (await client.get(f"/v1/instances/{name}"))[0] != 200:
            await asyncio.sleep(0.02)
        assert (await control(client, name, "interrupt"))[0] == 200
        status, problem = await running
        # Without a key it cannot be asked for again, so nobody does it again either.
        assert (status, problem["code"]) == ((503, "overtaken") if key is None else (409, "interrupted"))
        assert problem["retryable"] is False
        assert (await control(client, name, "resume"))[0] == 200
    assert await run(client, "b", *steps("b"), key="k") == (200, [{"number": 1}, "nothing", {"number": 2}])
    assert await run(client, "a", {"get": ["counts", "a"]}) == (200, [{"value": "Mg=="}])


async def test_a_timeout_says_what_is_durable(tmp_path: Path) -> None:
    async with host(tmp_path, "1s") as client:
        status, problem = await run(client, "a", {"add": ["counts", "n", 1]}, {"sleep": 30_000}, key="k")
        assert (status, problem["code"], problem["parts"], problem["retryable"]) == (504, "timeout", 2, False)
        status, problem = await run(client, "a", {"add": ["counts", "n", 1]}, {"sleep": 30_000}, key="k")
        assert (status, problem["code"], problem["cause"]) == (500, "call-failed", "timeout")
        assert (await get(client, "/v1/instances/a/invocations/k"))["state"] == "failed"


async def test_reset_gives_fresh_memory_and_keeps_the_rest(client: Client) -> None:
    await run(client, "a", add(5), {"add": ["counts", "n", 3]}, key="one")
    status, after = await control(client, "a", "reset")
    assert (status, after["state"]) == (200, "Active")
    assert (await client.call("a", "memory"))[1][0] == 0
    assert (await run(client, "a", {"add": ["counts", "n", 1]}))[1] == [{"number": 4}]
    status, result = await run(client, "a", add(5), {"add": ["counts", "n", 3]}, key="one")
    assert (status, result) == (200, [{"number": 5}, {"number": 3}])
    assert (await client.call("a", "memory"))[1][0] == 0


async def test_snapshot_trims_the_journal(client: Client) -> None:
    for _ in range(5):
        await run(client, "a", add(1))
    status, after = await control(client, "a", "snapshot")
    assert status == 200
    assert after["snapshot"]["sequence"] == 5 and after["snapshot"]["bytes"] > 0
    assert after["journal"]["entries"] == 0
    page = await get(client, "/v1/instances/a/journal")
    assert (page["entries"], page["trimmed"], page["sequence"]) == ([], 5, 5)
    assert (await get(client, "/v1/instances/a/check"))["sound"] is True
    assert (await client.call("a", "memory"))[1][0] == 5


async def test_what_cannot_be_done_is_said(client: Client) -> None:
    for verb in ("interrupt", "resume", "skip", "reset"):
        status, problem = await control(client, "nobody", verb)
        assert (status, problem["code"]) == (404, "no-such-instance"), verb
    await run(client, "a", add(1))
    status, problem = await control(client, "a", "skip")
    assert (status, problem["code"]) == (400, "bad-request")
    assert (await control(client, "a", "explode"))[0] == 404


async def test_the_journal_in_readable_form(client: Client) -> None:
    await run(client, "a", {"put": ["b", "k", "AAAA"]}, {"get": ["b", "k"]}, key="one")
    await run(client, "a", {"put": ["b", "big", "A" * 4000]})
    page = await get(client, "/v1/instances/a/journal")
    first, second = page["entries"]
    assert (first["sequence"], first["kind"], first["function"], first["key"]) == (1, "call", RUN, "one")
    assert first["arguments"] == '[[{"put":["b","k","AAAA"]},{"get":["b","k"]}]]'
    assert first["result"] == '["nothing",{"value":"AAAA"}]'
    assert first["guestMicroseconds"] >= 0 and first["bytes"] > 0 and first["time"].endswith("Z")
    assert second["arguments"]["bytes"] > 4000 and "result" not in second
    assert (page["next"], page["sequence"], page["trimmed"]) == (2, 2, 0)
    one = await get(client, "/v1/instances/a/journal?after=1&limit=1")
    assert [entry["sequence"] for entry in one["entries"]] == [2]


async def test_the_journal_is_followed(client: Client) -> None:
    await run(client, "a", add(1))
    begun = time.monotonic()
    empty = await get(client, "/v1/instances/a/journal?after=1&wait=1")
    assert (empty["entries"], empty["next"]) == ([], 1) and time.monotonic() - begun > 0.9
    waiting = asyncio.ensure_future(get(client, "/v1/instances/a/journal?after=1&wait=30"))
    await asyncio.sleep(0.2)
    await run(client, "a", add(2))
    assert [entry["sequence"] for entry in (await waiting)["entries"]] == [2]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=1001", "wait=61", "wait=x", "after=٣"])
async def test_numbers_out_of_range_are_refused(client: Client, query: str) -> None:
    await run(client, "a", add(1))
    status, problem = await client.get(f"/v1/instances/a/journal?{query}")
    assert (status, problem["code"]) == (400, "bad-request")
    assert query.partition("=")[0] in problem["detail"]


async def test_fsck_names_the_first_bad_entry(tmp_path: Path) -> None:
    async with host(tmp_path) as client:
        for name in ("a", "b"):
            for _ in range(3):
                await run(client, name, add(1))
        assert await get(client, "/v1/check?limit=1") == {"checked": 1, "unsound": [], "cursor": "a"}
        damage(tmp_path / "data", "b", 2)
        found = await get(client, "/v1/instances/b/check")
        assert (found["sound"], found["findings"][0]["sequence"], found["findings"][0]["code"]) == (False, 2, "entry")
        everything = await get(client, "/v1/check")
        assert (everything["checked"], everything["cursor"]) == (2, None)
        assert [one["name"] for one in everything["unsound"]] == ["b"]
        page = await get(client, "/v1/instances/b/journal")
        assert "checksum" in page["entries"][1]["problem"] and page["entries"][2]["kind"] == "call"
        assert (await client.get("/v1/instances/none/check"))[0] == 404
    async with host(tmp_path) as client:
        # The control: whoever recovers it meets the same entry, and a reset mends it.
        status, problem = await run(client, "b", add(1))
        assert (status, problem["code"]) == (503, "quarantined") and "entry 2" in problem["detail"]
        assert (await control(client, "b", "reset"))[0] == 200
        assert (await run(client, "b", add(1)))[0] == 200
        assert (await get(client, "/v1/instances/b/check"))["sound"] is True


async def test_fsck_finds_calls_that_cannot_be_read_and_goes_on_to_the_next_instance(tmp_path: Path) -> None:
    headers = {"Idempotency-Key": "k", "Perdure-Schedule-At": "2090-01-01T00:00:00Z"}
    async with host(tmp_path) as client:
        for name in ("a", "b", "c"):
            await run(client, name, add(1))
            url = f"{client.url}/v1/instances/{name}/functions/{RUN}"
            async with client.session.post(url, json=[[add(1)]], headers=headers) as reply:
                assert reply.status == 202
        database = sqlite3.connect(tmp_path / "data" / "local.sqlite")
        where = "WHERE CAST(instance AS TEXT) = 'a'"
        assert database.execute(f"UPDATE inbox SET payload = x'c1' {where}").rowcount == 1
        database.commit()
        database.close()
        everything = await get(client, "/v1/check")
        assert [(one["name"], one["findings"][0]["code"]) for one in everything["unsound"]] == [("a", "inbox")]
        assert "'k'" in everything["unsound"][0]["findings"][0]["detail"]
        # As it says.
        async with client.session.delete(f"{client.url}/v1/instances/a/invocations/k") as reply:
            assert reply.status == 200
        assert (await get(client, "/v1/check"))["unsound"] == []


async def test_a_result_that_is_damaged_is_no_answer(tmp_path: Path) -> None:
    async with host(tmp_path) as client:
        for key in ("text", "failure"):
            await run(client, "a", add(1), key=key)
        await client.call("a", "memory")
        database = sqlite3.connect(tmp_path / "data" / "local.sqlite")
        for key, body in (("text", b'["\xff"]'), ("failure", b"\0{")):
            where = "WHERE CAST(key AS TEXT) = ?"
            assert database.execute(f"UPDATE results SET body = ? {where}", (body, key)).rowcount == 1
        database.commit()
        database.close()
        for key in ("text", "failure"):
            status, problem = await run(client, "a", add(1), key=key)
            assert (status, problem["code"]) == (500, "internal") and "a result that cannot be read" in problem[
                "detail"
            ]
            status, problem = await client.get(f"/v1/instances/a/invocations/{key}")
            assert (status, problem["code"]) == (500, "internal") and "a result that cannot be read" in problem[
                "detail"
            ]
        entries = (await get(client, "/v1/instances/a/journal"))["entries"]
        assert ["problem" in entry for entry in entries] == [True, True, False]
        assert (await client.call("a", "memory"))[1][0] == 2, "nothing ran again"


def damage(directory: Path, instance: str, sequence: int) -> None:
    """Flip a bit of a journal entry in the SQLite file of a local host."""
    database = sqlite3.connect(directory / "local.sqlite")
    try:
        where = "WHERE CAST(instance AS TEXT) = ? AND sequence = ?"
        ((entry,),) = database.execute(f"SELECT entry FROM journal {where}", (instance, sequence)).fetchall()
        flipped = entry[:-1] + bytes([entry[-1] ^ 1])
        changed = database.execute(f"UPDATE journal SET entry = ? {where}", (flipped, instance, sequence))
        assert changed.rowcount == 1
        database.commit()
    finally:
        database.close()


async def test_the_dry_run_of_an_update(client: Client) -> None:
    for name in ("a", "b"):
        await run(client, name, add(1))
    present = (await get(client, "/v1/component"))["digest"]
    now = await get(client, "/v1/update")
    assert (now["policy"], now["component"]) == ("Restart", present)
    ((component),) = now["components"]
    assert (component["component"], component["instances"], component["action"]) == (present, 2, "none")
    other = "sha256:" + "a" * 64
    for policy, action in (("Restart", "restart"), ("Pin", "quarantine"), ("Migrate", "quarantine")):
        found = await get(client, f"/v1/update?component={other}&policy={policy}")
        assert [one["action"] for one in found["components"]] == [action], policy
    for query in ("component=x", "policy=Never"):
        assert (await client.get(f"/v1/update?{query}"))[0] == 400
