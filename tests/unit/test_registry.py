"""Pulling components: what a registry may answer, and what is refused in words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from perdure.errors import ComponentError
from perdure.registry.oci import Credentials, RegistryClient, credentials_from_docker_config
from perdure.registry.reference import Reference, parse_reference
from support.artifacts import Artifact, artifact
from support.registry import LocalRegistry, local_registry

WASM = b"\0asm\x0d\0\x01\0 and so on"
LOGIN = Credentials("ann", "sesame")


@pytest.fixture
async def registry() -> AsyncIterator[LocalRegistry]:
    async with local_registry() as found:
        found.tags["team/carts:1.0"] = artifact(WASM)
        yield found


def reference(registry: LocalRegistry, rest: str = "team/carts:1.0") -> Reference:
    return parse_reference(f"{registry.address}/{rest}")


async def pulled(registry: LocalRegistry, *, login: Credentials | None = None, insecure: bool = True) -> bytes:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        credentials = {registry.address: login} if login else {}
        client = RegistryClient(session, credentials=credentials, insecure=[registry.address] if insecure else [])
        ref = reference(registry)
        return await client.pull(ref, await client.resolve(ref), lambda line: None)


async def refusal(registry: LocalRegistry, **options: Any) -> str:
    with pytest.raises(ComponentError) as refused:
        await pulled(registry, **options)
    assert "sesame" not in refused.value.detail
    return refused.value.detail


async def test_a_component_is_its_layer(registry: LocalRegistry) -> None:
    assert await pulled(registry) == WASM


async def test_https_unless_said_otherwise(registry: LocalRegistry) -> None:
    assert f"registry {registry.address} was not reached" in await refusal(registry, insecure=False)
    assert registry.requests == []


async def test_basic_authentication(registry: LocalRegistry) -> None:
    def gate(request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") == "Basic YW5uOnNlc2FtZQ==":
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    registry.gate = gate
    assert await pulled(registry, login=LOGIN) == WASM
    assert "asks for credentials (spec.component.pullSecrets)" in await refusal(registry)
    assert "refused the credentials" in await refusal(registry, login=Credentials("ann", "wrong"))


def bearer(registry: LocalRegistry, realm: str | None = None) -> None:
    named = f"http://{registry.address}/token" if realm is None else realm

    def gate(request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") == "Bearer t":
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{named}",service="s"'})

    registry.gate = gate


async def test_token_authentication(registry: LocalRegistry) -> None:
    bearer(registry)
    assert await pulled(registry) == WASM
    (asked,) = [path for path in registry.requests if path.startswith("/token")]
    assert asked == "/token?scope=repository:team/carts:pull&service=s"


@pytest.mark.parametrize("realm", ["http://169.254.169.254/latest", "file:///etc/passwd", "", "//x"])
async def test_a_token_service_is_only_asked_over_https(registry: LocalRegistry, realm: str) -> None:
    """An insecure registry may name plain HTTP, of others it leads to what only this machine can reach."""
    bearer(registry, realm)
    async with aiohttp.ClientSession() as session:
        client = RegistryClient(session, insecure=[])
        fields = {"realm": realm, "service": ""}
        with pytest.raises(ComponentError, match="token service that is not https"):
            await client._bearer(reference(registry), fields, None)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (web.Response(status=500), "token service answered 500"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "token service answered 302"),
        (web.Response(text="<html>"), "answered without a token"),
        (web.Response(text="[1]"), "answered without a token"),
        (web.Response(text='{"token": 7}'), "answered without a token"),
        (web.Response(text=json.dumps({"token": "a\r\nHost: evil"})), "answered without a token"),
        (web.Response(text="[" * 200_000), "answered without a token"),
    ],
)
async def test_a_hostile_token_service(registry: LocalRegistry, answer: web.Response, words: str) -> None:
    bearer(registry)
    registry.token = lambda request: answer
    assert words in await refusal(registry)


async def test_a_registry_that_never_lets_in(registry: LocalRegistry) -> None:
    registry.gate = lambda request: web.Response(
        status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{registry.address}/token"'}
    )
    assert "refused the credentials" in await refusal(registry)
    assert len(registry.requests) == 3, "asked, got a token, asked once more"


def manifest(change: dict[str, Any]) -> Artifact:
    made = artifact(WASM)
    return Artifact(json.dumps({**json.loads(made.manifest), **change}).encode(), made.blobs, made.component)


LAYER = json.loads(artifact(WASM).manifest)["layers"][0]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (manifest({"layers": []}), "holds 0 WebAssembly layers"),
        (manifest({"layers": [LAYER, LAYER]}), "holds 2 WebAssembly layers"),
        (artifact(WASM, media_type="application/vnd.oci.image.layer.v1.tar+gzip"), "holds 0 WebAssembly layers"),
        (manifest({"layers": [{**LAYER, "digest": "sha256:../../x"}]}), "holds 1 WebAssembly layers"),
        (manifest({"layers": [{**LAYER, "size": 1 << 40}]}), "holds 1 WebAssembly layers"),
        (manifest({"layers": [{**LAYER, "size": 3}]}), "longer than 3 bytes"),
        (manifest({"layers": {}}), "holds 0 WebAssembly layers"),
        (Artifact(b"{}", {}, ""), "is not an OCI artifact manifest"),
        (Artifact(b"<html>", {}, ""), "is not an OCI artifact manifest"),
        (Artifact(b"[" * 100_000, {}, ""), "is not an OCI artifact manifest"),
        (Artifact(b" " * (5 << 20), {}, ""), "longer than 4,194,304 bytes"),
    ],
)
async def test_hostile_manifests(registry: LocalRegistry, found: Artifact, words: str) -> None:
    registry.tags["team/carts:1.0"] = found
    assert words in await refusal(registry)


async def test_a_blob_of_another_content(registry: LocalRegistry) -> None:
    made = artifact(WASM)
    registry.tags["team/carts:1.0"] = Artifact(
        made.manifest, {**made.blobs, made.component: WASM[:-1] + b"!"}, made.component
    )
    assert "its content has changed" in await refusal(registry)


async def test_a_manifest_that_is_not_the_pinned_one(registry: LocalRegistry) -> None:
    pinned = artifact(WASM).digest
    registry.gate = lambda request: web.Response(body=artifact(WASM + b"!").manifest)
    async with aiohttp.ClientSession() as session:
        client = RegistryClient(session, insecure=[registry.address])
        with pytest.raises(ComponentError, match="a manifest of another digest"):
            await client.resolve(reference(registry, f"team/carts@{pinned}"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"auths": []}', '{"auths": {"r": {}}}', '{"auths": {"r": {"auth": "*"}}}']
)
async def test_what_is_no_pull_secret(text: str) -> None:
    with pytest.raises(ComponentError, match="dockerconfigjson"):
        credentials_from_docker_config(text)
