"""`perdure keys` against a real host: pages, prefixes, values, refusals, and help that teaches."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.test_command import perdure
from support.hosts import EXAMPLE, Client, local_host

MANIFEST = f"""
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {{name: keys}}
spec:
  component: {{url: "file:{EXAMPLE}"}}
  keyValue:
    undeclaredBuckets: Deny
    buckets: [{{name: shop}}, {{name: own, scope: Instance}}, {{name: fixed, access: ReadOnly}}, {{name: few, maxKeys: 1}}]
"""


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    manifest = tmp_path / "worker.yaml"
    manifest.write_text(MANIFEST)
    async with local_host(manifest, tmp_path / "data", base=Path("/")) as (_, made):
        yield made


async def done(client: Client, *arguments: str) -> str:
    code, out, err = await perdure(client, "keys", *arguments)
    assert (code, err) == (0, ""), err
    return out


async def refused(client: Client, *arguments: str) -> str:
    code, out, err = await perdure(client, "keys", *arguments)
    assert (code, out) == (1, "")
    return err


async def test_keys_and_values(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes(bytes(range(256)))
    for key, *value in (("a", "1"), ("b/{x}", "two words"), ("b/ü", "--file", str(file)), ("c\nd", "")):
        assert await done(client, "set", "shop", key, *value) == ""
    assert await done(client, "list", "shop") == 'a\nb/{x}\nb/ü\n"c\\nd"\n'
    assert await done(client, "list", "shop", "--prefix", "b/", "--limit", "1") == "b/{x}\n"
    assert (
        await done(client, "list", "shop", "--prefix", "b/", "--after", "b/{x}", "--output", "json") == '"b/\\u00fc"\n'
    )
    assert await done(client, "get", "shop", "b/{x}") == "two words"
    found = json.loads(await done(client, "get", "shop", "b/ü", "--output", "json"))
    assert found == {"key": "b/ü", "bytes": 256, "base64": base64.b64encode(bytes(range(256))).decode()}
    await done(client, "delete", "shop", "a", "b/ü", "never")
    assert await done(client, "list", "shop") == 'b/{x}\n"c\\nd"\n'
    await done(client, "set", "own", "k", "alice's", "--instance", "alice")
    assert await done(client, "get", "own", "k", "--instance", "alice") == "alice's"
    assert await done(client, "list", "own", "--instance", "bob") == ""


async def test_more_than_a_page(client: Client) -> None:
    keys = [f"k{number:04}" for number in range(1203)]

    async def put(key: str) -> None:
        async with client.session.put(f"{client.url}/v1/buckets/shop/keys/{key}", data=b"") as reply:
            assert reply.status == 204

    for start in range(0, len(keys), 100):
        await asyncio.gather(*map(put, keys[start : start + 100]))
    assert (await done(client, "list", "shop")).split() == keys
    assert (await done(client, "list", "shop", "--limit", "1100", "--after", "k0001")).split() == keys[2:1102]


async def test_refusals(client: Client) -> None:
    await done(client, "set", "few", "a", "1", "--new")
    assert "[precondition-failed]" in await refused(client, "set", "few", "a", "2", "--new")
    assert "[bucket-full]" in await refused(client, "set", "few", "b", "2")
    assert "[access-denied]" in await refused(client, "set", "fixed", "a", "2")
    assert "[access-denied]" in await refused(client, "delete", "fixed", "a")
    assert "[no-such-bucket]" in await refused(client, "list", "none")
    assert "[no-such-key]" in await refused(client, "get", "few", "b")
    assert "?instance=" in await refused(client, "list", "own")
    assert "No such file" in await refused(client, "set", "few", "a", "--file", "/none/such")
    for wrong in (("set", "few", "a"), ("set", "few", "a", "1", "--file", "-"), ("list", "few", "--limit", "0"), ()):
        code, _, _ = await perdure(client, "keys", *wrong)
        assert code == 2, wrong
    code, _, err = await perdure(None, "keys", "list", "shop", "--url", "http://127.0.0.1:1/")
    assert code == 3 and "perdure run" in err


async def test_the_help_teaches() -> None:
    code, out, _ = await perdure(None, "keys", "--help")
    assert code == 0 and "perdure keys set carts" in out and "--instance alice" in out
    for action in ("list", "get", "set", "delete"):
        code, out, _ = await perdure(None, "keys", action, "--help")
        assert code == 0 and "BUCKET" in out and "--instance" in out
