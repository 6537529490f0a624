"""The command against a real host: what it prints, its exit codes, and help that teaches."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.guests import COMPILED, guest
from support.hosts import Client, local_host

MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: ledger}
spec:
  component: {url: "file:ledger.wasm"}
  retry: {maxAttempts: 1}
"""
REMEMBER = '[{"remember": 2}]'


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    manifest = tmp_path / "worker.yaml"
    manifest.write_text(MANIFEST)
    async with local_host(manifest, tmp_path / "data", base=guest("ledger").parent, cache=COMPILED) as pair:
        yield pair[1]


async def perdure(client: Client | None, *arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    url = client.url if client is not None else "http://127.0.0.1:1"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "perdure", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "PERDURE_URL": url},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_an_asynchronous_call_from_acceptance_to_result(client: Client) -> None:
    assert await perdure(client, "invoke", "--async", "--wait", "a", "run", REMEMBER) == (0, '[{"number": 2}]\n', "")
    code, out, _ = await perdure(client, "invoke", "--at", "2999-01-01T00:00:00Z", "--key", "one", "a", "run", REMEMBER)
    accepted = json.loads(out)
    assert (code, accepted["key"], accepted["state"]) == (0, "one", "pending")
    code, out, _ = await perdure(client, "invocation", "a")
    assert code == 0 and "2999-01-01" in out and "one" in out
    code, out, _ = await perdure(client, "invocation", "a", "one", "--output", "json")
    assert code == 0 and json.loads(out)["attempts"] == 0
    code, out, _ = await perdure(client, "invocation", "a", "one", "--cancel")
    assert code == 0 and "cancelled" in out
    code, _, err = await perdure(client, "invocation", "a", "one")
    assert code == 1 and "no-such-invocation" in err


async def test_keys_and_names_of_any_characters(client: Client) -> None:
    for _ in range(2):
        assert await perdure(client, "invoke", "--key", "ключ 1", "a", "run", REMEMBER) == (0, '[{"number":2}]\n', "")
    code, out, _ = await perdure(client, "invocation", "a", "ключ 1", "--output", "json")
    assert code == 0 and json.loads(out)["state"] == "succeeded"
    code, _, err = await perdure(client, "invoke", "--key", "", "a", "run", REMEMBER)
    assert code == 2 and "--key" in err, "a key that was forgotten is not made up"
    for arguments in (("--key", "a\nb", "a", "run"), ("--at", "a\nb", "a", "run"), ("\udcff", "run"), ("a", "\udcff")):
        code, out, err = await perdure(client, "invoke", *arguments, REMEMBER)
        assert code == 1 and "[bad-request]" in err and "Traceback" not in err, err
    code, _, err = await perdure(client, "invoke", "a", "xyzzy")
    assert code == 1 and "'xyzzy'. It exports" in err


async def test_a_call_that_quarantines_is_seen_and_skipped(client: Client) -> None:
    code, out, _ = await perdure(client, "invoke", "--async", "--key", "bad", "a", "run", '["trap"]')
    assert code == 0
    async with asyncio.timeout(60):
        while "Quarantined" not in (shown := (await perdure(client, "instances", "a"))[1]):
            await asyncio.sleep(0.1)
    assert "bad" in shown
    code, out, _ = await perdure(client, "invocation", "a", "bad")
    assert code == 0 and "blocked" in out
    code, _, err = await perdure(client, "invoke", "a", "memory")
    assert code == 1 and "[quarantined]" in err
    code, out, _ = await perdure(client, "skip", "a")
    assert code == 0 and "a: Active" in out
    code, out, err = await perdure(client, "invocation", "a", "bad", "--wait")
    assert (code, out) == (1, "") and "[skipped]" in err
    code, _, err = await perdure(client, "skip", "a")
    assert code == 1 and "[bad-request]" in err


async def test_the_journal_is_shown_and_followed(client: Client) -> None:
    await perdure(client, "invoke", "--key", "one", "a", "run", REMEMBER)
    code, out, _ = await perdure(client, "journal", "a")
    assert code == 0 and 'run[[{"remember":2}]] -> [{"number":2}]' in out and "key=one" in out
    code, out, _ = await perdure(client, "journal", "a", "--output", "json")
    assert json.loads(out)["sequence"] == 1
    assert (await perdure(client, "journal", "a", "--after", "1"))[:2] == (0, "")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "perdure", "journal", "a", "--follow", "--url", client.url,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert b"key=one" in await process.stdout.readline()
            await perdure(client, "invoke", "--key", "two", "a", "run", REMEMBER)
            assert b"key=two" in await process.stdout.readline()
    finally:
        process.terminate()
        await process.communicate()


async def test_the_journal_says_what_is_in_it_no_more(client: Client) -> None:
    for key in ("one", "two", "three"):
        await perdure(client, "invoke", "--key", key, "a", "run", REMEMBER)
        if key == "two":
            await perdure(client, "snapshot", "a")
            assert await perdure(client, "journal", "a") == (0, "", "entries 1 to 2 are not in the journal any more\n")
    code, out, err = await perdure(client, "journal", "a", "--after", "1")
    assert (code, err) == (0, "entry 2 is not in the journal any more\n") and "key=three" in out
    assert (await perdure(client, "journal", "a", "--after", "2"))[2] == "", "the control: nothing is missing"


async def test_fsck_and_controls(client: Client) -> None:
    for name in ("a", "b"):
        await perdure(client, "invoke", name, "run", REMEMBER)
    assert await perdure(client, "fsck") == (0, "2 instances checked, 0 with findings\n", "")
    assert await perdure(client, "fsck", "a") == (0, "a is sound at sequence 1\n", "")
    code, _, err = await perdure(client, "fsck", "nobody")
    assert code == 1 and "no-such-instance" in err
    for verb, said in (("snapshot", "Active"), ("interrupt", "Interrupted"), ("resume", "Active"), ("reset", "Active")):
        code, out, _ = await perdure(client, verb, "a")
        assert code == 0 and said in out, verb
    assert (await perdure(client, "invoke", "a", "memory"))[1].startswith("[0")


async def test_the_dry_run_of_an_update(client: Client, tmp_path: Path) -> None:
    await perdure(client, "invoke", "a", "run", REMEMBER)
    code, out, _ = await perdure(client, "update", "--dry-run")
    assert code == 0 and "update: Restart" in out and "none" in out
    new = tmp_path / "new.wasm"
    new.write_bytes(b"new")
    code, out, _ = await perdure(client, "update", "--dry-run", "--component", str(new), "--policy", "Pin")
    assert code == 0 and "quarantine" in out
    code, _, err = await perdure(client, "update", "--dry-run", "--component", str(tmp_path / "none.wasm"))
    assert code == 1 and "none.wasm" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("update",),
        ("invoke", "--wait", "a", "f"),
        ("invocation", "a", "--cancel"),
        ("journal", "a", "--after", "-1"),
        ("instances", "--delete"),
    ],
    ids=" ".join,
)
async def test_misuse_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    code, out, err = await perdure(None, *arguments)
    assert (code, out) == (2, "") and err.startswith(f"perdure {arguments[0]}")


async def test_no_host_is_exit_code_3() -> None:
    code, _, err = await perdure(None, "journal", "a")
    assert code == 3 and "perdure run" in err


@pytest.mark.parametrize(
    "command", ["invocation", "journal", "fsck", "update", "interrupt", "resume", "skip", "reset", "snapshot"]
)
async def test_help_teaches(command: str) -> None:
    code, out, _ = await perdure(None, command, "--help")
    assert code == 0 and len(out.split()) > 40
