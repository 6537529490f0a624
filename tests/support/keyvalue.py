"""Hosts of the key-value guests: one manifest for every provider and generation."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from support.guests import COMPILED, guest, language_guest
from support.hosts import Client, local_host

KINDS = {"apiVersion": "perdure.dev/v1alpha1"}
PROVIDERS = ("memory", "sqlite", "redis", "postgres")
FAR = ("etcd", "nats")
"""Those that have buckets only: they are called `far`, and the home beside them is in memory."""


def b64(data: bytes) -> str:
    """As JSON has a list of bytes."""
    return base64.b64encode(data).decode()


def provider_of(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The provider's part of its manifest; the provider is called `home`, or `far`."""
    if kind == "redis":
        return {"redis": {"url": request.getfixturevalue("redis").url}}
    if kind == "postgres":
        port = request.getfixturevalue("postgres").port
        monkeypatch.setenv("PERDURE_HOME_USERNAME", "postgres")
        return {"postgres": {"url": f"postgres://127.0.0.1:{port}/postgres"}}
    if kind == "etcd":
        return {"etcd": {"endpoints": [request.getfixturevalue("etcd").url]}}
    if kind == "nats":
        return {"nats": {"servers": [request.getfixturevalue("nats").url]}}
    return {kind: {}}


def _yaml(document: object) -> str:
    """JSON, but for characters beyond the basic plane: YAML has no surrogates."""
    pairs = re.compile(r"\\u(d[89ab]..)\\u(d[c-f]..)")
    return pairs.sub(lambda pair: f"\\U{ord(json.loads(chr(34) + pair[0] + chr(34))):08x}", json.dumps(document))


def manifest_of(
    name: str, component: str, provider: dict[str, object], directory: Path, spec: Mapping[str, object]
) -> Path:
    """The file of a Worker `name`, which runs the guest `component`, in Rust or, as `kv-g4.python`, in another
    language; with its provider. `spec`: more of the Worker's manifest. A provider that has buckets only has all that are
    declared."""
    stem, _, language = component.partition(".")
    path = language_guest(language, stem) if language else guest(stem)
    far = not provider.keys().isdisjoint(FAR)
    documents: list[object] = [_provider("home", {"default": True, **({"memory": {}} if far else provider)})]
    if far:
        documents.append(_provider("far", provider))
        keyvalue = cast("dict[str, list[dict[str, object]]]", spec["keyValue"])
        spec = {
            **spec,
            "keyValue": {**keyvalue, "buckets": [{**one, "provider": "far"} for one in keyvalue["buckets"]]},
        }
    worker = {
        **KINDS,
        "kind": "Worker",
        "metadata": {"name": name},
        "spec": {"component": {"url": f"file:{path}"}, **spec},
    }
    manifest = directory / "worker.yaml"
    manifest.write_text("\n---\n".join(map(_yaml, [*documents, worker])))
    return manifest


def _provider(name: str, spec: dict[str, object]) -> dict[str, object]:
    return {**KINDS, "kind": "KeyValueProvider", "metadata": {"name": name}, "spec": spec}


@asynccontextmanager
async def hosted(
    name: str, component: str, provider: dict[str, object], directory: Path, **spec: object
) -> AsyncIterator[Client]:
    """A host in this process, of the Worker that `manifest_of` writes."""
    manifest = manifest_of(name, component, provider, directory, spec)
    async with local_host(manifest, directory / "data", base=Path("/"), cache=COMPILED) as (_, client):
        yield client


class Programs:
    """Calls the first generations' `legacy.run`: steps in, outcomes out."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, *steps: object, instance: str = "a", key: str | None = None) -> list[object]:
        status, answer = await self._client.call(instance, "run", list(steps), key=key)
        for _ in range(99):
            if status != 429:
                break
            # A snapshot of the instance that would have to make room.
            await asyncio.sleep(0.02)
            status, answer = await self._client.call(instance, "run", list(steps), key=key)
        assert status == 200, answer
        assert isinstance(answer, list)
        return answer

    async def described(self, instance: str) -> dict[str, object]:
        """What the API says of an instance."""
        status, answer = await self._client.get(f"/v1/instances/{instance}")
        assert status == 200 and isinstance(answer, dict), answer
        return answer
