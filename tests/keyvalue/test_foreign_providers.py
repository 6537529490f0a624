"""wasi:keyvalue on buckets at providers that cannot be a home: the guest sees no difference but the bounds."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keyvalue.test_generations import ODD, KeyValue
from providers.worlds import FOREIGN
from support.guests import COMPILED, guest
from support.hosts import local_host
from support.keyvalue import b64

KINDS = {"apiVersion": "perdure.dev/v1alpha1"}


@pytest.fixture(params=[(kind, generation) for kind in sorted(FOREIGN) for generation in ("g1", "g4")],
                ids=lambda pair: "-".join(pair))  # fmt: skip
async def kv(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyValue]:
    kind, generation = request.param
    server = request.getfixturevalue(kind)
    far: dict[str, Any] = (
        {"etcd": {"endpoints": [server.url]}} if kind == "etcd" else {"nats": {"servers": [server.url]}}
    )
    documents = [
        {**KINDS, "kind": "KeyValueProvider", "metadata": {"name": "home"}, "spec": {"default": True, "memory": {}}},
        {**KINDS, "kind": "KeyValueProvider", "metadata": {"name": "far"}, "spec": far},
        {
            **KINDS,
            "kind": "Worker",
            "metadata": {"name": f"kv-{uuid.uuid4().hex[:12]}"},
            "spec": {
                "component": {"url": f"file:{guest(f'kv-{generation}')}"},
                "limits": {"maxBodyBytes": "16Mi"},
                "keyValue": {
                    "undeclaredBuckets": "Allow",
                    "buckets": [
                        {"name": "b", "provider": "far"},
                        {"name": "shared", "provider": "far", "scope": "Namespace"},
                    ],
                },
            },
        },
    ]
    manifest = tmp_path / "worker.yaml"
    manifest.write_text("\n---\n".join(map(json.dumps, documents)))
    async with local_host(manifest, tmp_path / "data", base=Path("/"), cache=COMPILED) as (_, client):
        yield KeyValue(client, modern=generation == "g4", odd=ODD)


async def test_as_any_bucket(kv: KeyValue) -> None:
    status, document = await kv.client.get("/v1/component")
    assert status == 200 and isinstance(document, dict)
    assert document["providers"]["far"]["guarantee"] == "exactly-once" and not document["providers"]["far"]["home"]
    for key in ODD[:8]:
        await kv.ok("set", "b", key, b64(key.encode()))
    assert await kv.ok("get-many", "b", ODD[:8]) == [b64(key.encode()) for key in ODD[:8]]
    assert sorted(await kv.ok("keys", "b")) == sorted(ODD[:8])
    await kv.ok("delete-many", "b", ODD[:7])
    before, written, deleted = await kv.ok("rewrite", "b", "b", "k", b64(b"new"))
    assert (before["keys"], written["keys"], deleted["keys"], written["value"]) == (1, 2, 1, b64(b"new"))
    assert [await kv.ok("increment", "b", "n") for _ in range(3)] == [1, 2, 3]
    await kv.ok("set", "shared", "k", b64(b"v"))
    assert await kv.ok("keys", "shared") is not None
    assert await kv.ok("get", "near", "n") is None


async def test_bounds_are_the_interfaces_own_errors(kv: KeyValue) -> None:
    said = await kv.refused("set-many", "b", [[f"k{number}", ""] for number in range(1200)])
    assert "1,200 writes at once; provider 'far' of bucket 'b' applies" in said
    assert "a value of 2,097,152 bytes" in await kv.refused("set", "b", "k", b64(bytes(2 << 20)))
    assert await kv.ok("keys", "b") == []
    await kv.ok("set-many", "near", [[f"k{number}", ""] for number in range(1200)])
    value = bytes(900_000)
    await kv.ok("set", "b", "large", b64(value))
    assert base64.b64decode(str(await kv.ok("get", "b", "large"))) == value
