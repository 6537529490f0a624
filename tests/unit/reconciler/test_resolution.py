"""Which component a Worker means: found once, pinned, found anew only when the manifest asks for another."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiohttp import web

from perdure.errors import ComponentError, ManifestError
from perdure.manifests.worker import ComponentSource
from perdure.reconciler.api import Cluster
from perdure.reconciler.conditions import Reason
from perdure.reconciler.inputs import gather
from perdure.reconciler.resolution import ComponentRefused, Pin, resolve_component
from support.artifacts import artifact, digest_of
from support.memory_cluster import MemoryCluster
from support.plans import SECURE, worker_document
from support.registry import LocalRegistry, local_registry

FIRST, SECOND = b"\0asm\x0d\0\x01\0one", b"\0asm\x0d\0\x01\0two"
CORE = b"\0asm\x01\0\0\0"


@pytest.fixture
async def registry() -> AsyncIterator[LocalRegistry]:
    async with local_registry() as found:
        found.tags["carts:1.0"] = artifact(FIRST)
        yield found


async def resolved(
    registry: LocalRegistry | None, status: dict[str, Any], cluster: MemoryCluster | None = None, **source: Any
) -> Pin:
    insecure = (registry.address,) if registry is not None else ()
    found = cast("Cluster", cluster or MemoryCluster())
    return await resolve_component(found, "shop", ComponentSource.model_validate(source), status, insecure)


def status(pin: Pin) -> dict[str, Any]:
    """As the operator would have written it."""
    return {"component": {"digest": pin.digest, "source": pin.source, "size": pin.size}}


async def test_a_moved_tag_changes_nothing(registry: LocalRegistry) -> None:
    image = f"{registry.address}/carts:1.0"
    pin = await resolved(registry, {}, image=image)
    assert pin.digest == digest_of(FIRST)
    assert pin.size == len(FIRST)
    assert pin.image_ref == f"{registry.address}/carts@{artifact(FIRST).digest}"
    registry.tags["carts:1.0"] = artifact(SECOND)
    asked = len(registry.requests)
    assert await resolved(registry, status(pin), image=image) == pin
    assert len(registry.requests) == asked, "the registry is not even asked"
    # The negative control: without the pin, the tag means the other component by now.
    assert (await resolved(registry, {}, image=image)).digest == digest_of(SECOND)


async def test_sha256_asks_for_another_component_of_the_same_tag(registry: LocalRegistry) -> None:
    image, first, second = f"{registry.address}/carts:1.0", digest_of(FIRST), digest_of(SECOND)
    pin = await resolved(registry, {}, image=image)
    with pytest.raises(ComponentRefused, match=f"holds {first}, but {second} was expected"):
        await resolved(registry, status(pin), image=image, sha256=second)
    registry.tags["carts:1.0"] = artifact(SECOND)
    assert await resolved(registry, status(pin), image=image, sha256=first) == pin
    assert (await resolved(registry, status(pin), image=image, sha256=second)).digest == second


async def test_another_reference_is_resolved(registry: LocalRegistry) -> None:
    registry.tags["carts:latest"] = artifact(SECOND)
    by_digest = f"{registry.address}/carts@{artifact(FIRST).digest}"
    pin = await resolved(registry, {}, image=by_digest)
    assert pin.digest == digest_of(FIRST)
    assert await resolved(registry, status(pin), image=by_digest) == pin
    # A reference that is the beginning of the former one is another one.
    assert (await resolved(registry, status(pin), image=f"{registry.address}/carts")).digest == digest_of(SECOND)


async def test_a_registry_that_is_away_does_not_matter_once_pinned(registry: LocalRegistry) -> None:
    image = f"{registry.address}/carts:1.0"
    pin = await resolved(registry, {}, image=image)
    registry.gate = lambda request: web.Response(status=503)
    assert await resolved(registry, status(pin), image=image) == pin
    with pytest.raises(ComponentError, match="answered 503"):
        await resolved(registry, {}, image=image)


async def test_pull_secrets(registry: LocalRegistry) -> None:
    registry.gate = lambda request: (
        None
        if request.headers.get("Authorization") == "Basic YW5uOnNlc2FtZQ=="
        else web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
    )
    source: dict[str, Any] = {"image": f"{registry.address}/carts:1.0", "pullSecrets": [{"name": "login"}]}
    with pytest.raises(ComponentError, match="pull secret login not found in namespace shop"):
        await resolved(registry, {}, **source)
    secret: dict[str, Any] = {"kind": "Secret", "metadata": {"name": "login"}, "data": {"x": ""}}
    with pytest.raises(ComponentError, match="not of type kubernetes.io/dockerconfigjson"):
        await resolved(registry, {}, MemoryCluster(secret), **source)
    login = json.dumps({"auths": {registry.address: {"username": "ann", "password": "sesame"}}})
    secret["data"] = {".dockerconfigjson": base64.b64encode(login.encode()).decode()}
    assert (await resolved(registry, {}, MemoryCluster(secret), **source)).digest == digest_of(FIRST)


async def test_the_digest_of_a_url_or_a_volume_is_given() -> None:
    sha256 = "A" * 64
    for source in ({"url": "https://x/y.wasm"}, {"persistentVolumeClaim": {"claimName": "v", "path": "y.wasm"}}):
        pin = await resolved(None, {}, sha256=sha256, **source)
        assert (pin.digest, pin.image_ref) == ("sha256:" + "a" * 64, None)


@pytest.mark.parametrize("image", ["carts", "registry.example/Carts:1", "registry.example/carts:1@sha256:0"])
async def test_what_is_no_reference(image: str) -> None:
    with pytest.raises(ManifestError):
        await resolved(None, {}, image=image)


def config_map(name: str = "c", **content: Any) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": "5"}, **content}


def binary(data: bytes) -> dict[str, Any]:
    return {"binaryData": {"component.wasm": base64.b64encode(data).decode()}}


@pytest.mark.parametrize(
    ("content", "sha256", "kind", "words"),
    [
        (None, None, ComponentError, "ConfigMap c not found in namespace shop"),
        ({"data": {"x": "", "a": ""}}, None, ComponentError, "has no key component.wasm (found: a, x)"),
        (binary(b"garbage"), None, ComponentRefused, "is not WebAssembly"),
        ({"data": {"component.wasm": "text"}}, None, ComponentRefused, "is not WebAssembly"),
        (binary(CORE), None, ComponentRefused, "core module"),
        (binary(FIRST), "0" * 64, ComponentRefused, "was expected"),
    ],
)
async def test_config_maps_that_do_not_do(
    content: dict[str, Any] | None, sha256: str | None, kind: type[ComponentError], words: str
) -> None:
    cluster = MemoryCluster(*([config_map(**content)] if content is not None else []))
    with pytest.raises(ComponentError) as refused:
        await resolved(None, {}, cluster, configMap={"name": "c"}, sha256=sha256)
    assert type(refused.value) is kind
    assert words in refused.value.detail


async def test_a_config_map_is_pinned_to_its_present_content() -> None:
    cluster = MemoryCluster(config_map(**binary(FIRST)))
    pin = await resolved(None, {}, cluster, configMap={"name": "c"})
    cluster.put(config_map(**binary(SECOND)))
    assert (await resolved(None, status(pin), cluster, configMap={"name": "c"})).digest == digest_of(SECOND)


def provider(**spec: Any) -> dict[str, Any]:
    return {"kind": "KeyValueProvider", "metadata": {"name": "main"}, "spec": {"default": True, **spec}}


async def reasons(*objects: dict[str, Any], **spec: Any) -> list[tuple[Reason, str]]:
    """The problems of a Worker in this cluster."""
    found = await gather(cast("Cluster", MemoryCluster(*objects)), worker_document(**spec), ())
    problems = [found.component_error, found.provider_error, found.reference_error]
    assert found.complete is (not any(problems) and found.spec_error is None)
    return [(problem.reason, problem.message) for problem in problems if problem is not None]


COMPONENT = config_map("carts-component", **binary(FIRST))
VALUE = {"name": "V", "valueFrom": {"configMapKeyRef": {"name": "values", "key": "k"}}}


async def test_what_is_missing_has_a_reason_of_its_own() -> None:
    assert await reasons(COMPONENT, provider(memory={})) == []
    assert await reasons() == [
        (Reason.COMPONENT_NOT_FOUND, "ConfigMap carts-component not found in namespace shop"),
        (Reason.PROVIDER_NOT_FOUND, "no KeyValueProvider is the default one: name one in spec.keyValue.provider"),
    ]
    core = config_map("carts-component", **binary(CORE))
    assert [reason for reason, _ in await reasons(core, provider(memory={}))] == [Reason.COMPONENT_REFUSED]
    assert await reasons(COMPONENT, provider(memory={}, allowedNamespaces=["other"])) == [
        (Reason.PROVIDER_REFUSED, "KeyValueProvider main does not allow namespace shop (allowedNamespaces)")
    ]
    assert [reason for reason, _ in await reasons(COMPONENT, provider(sqlite={}), replicas=2)] == [
        Reason.PROVIDER_REFUSED
    ]
    broken = await reasons(COMPONENT, provider(redis={"url": "x"}), keyValue={"provider": "main"})
    assert [reason for reason, _ in broken] == [Reason.PROVIDER_REFUSED]
    assert await reasons(COMPONENT, provider(memory={}), env=[VALUE]) == [
        (Reason.CONFIG_MAP_NOT_FOUND, "ConfigMap values not found in namespace shop (spec.env V)")
    ]
    assert await reasons(COMPONENT, provider(**SECURE)) == [
        (
            Reason.SECRET_NOT_FOUND,
            "; ".join(
                f"Secret {name} not found in namespace shop ({field} of KeyValueProvider main)"
                for name, field in (("redis-ca", "caSecretRef"), ("redis-auth", "credentialsSecretRef"))
            ),
        )
    ]


async def test_the_authority_that_guests_trust_is_looked_for() -> None:
    http = {"tls": {"caSecretRef": {"name": "corporate-ca"}}}
    assert await reasons(COMPONENT, provider(memory={}), http=http) == [
        (Reason.SECRET_NOT_FOUND, "Secret corporate-ca not found in namespace shop (spec.http.tls.caSecretRef)")
    ]
    found = [COMPONENT, provider(memory={}), secret("corporate-ca", "7")]
    assert await reasons(*found, http=http) == []
    # It is read at the start: another one makes the pods anew.
    assert (await versions(*found, http=http))["Secret/corporate-ca"] == "7"


async def test_replicas_do_not_stand_in_the_way_of_a_deletion() -> None:
    document = worker_document(replicas=2)
    cluster = cast("Cluster", MemoryCluster(COMPONENT, provider(sqlite={})))
    assert (await gather(cluster, document, ())).effective is None
    document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (await gather(cluster, document, ())).effective is not None


async def versions(*objects: dict[str, Any], **spec: Any) -> dict[str, str]:
    found = await gather(cast("Cluster", MemoryCluster(*objects)), worker_document(**spec), ())
    return dict(found.versions)


def secret(name: str, version: str = "1") -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": name, "resourceVersion": version}}


async def test_only_what_hosts_read_once_is_part_of_the_checksum() -> None:
    token = {"name": "T", "valueFrom": {"secretKeyRef": {"name": "token", "key": "k"}}}
    objects = [COMPONENT, provider(**SECURE), secret("redis-ca", "2"), secret("redis-auth", "3"), secret("token", "4"),
               config_map("values")]  # fmt: skip
    # A rotated password is used at the next connect; the component has a digest.
    assert await versions(*objects, env=[token, VALUE]) == {
        "Secret/redis-ca": "2", "Secret/token": "4", "ConfigMap/values": "5"
    }  # fmt: skip


async def test_a_config_map_that_is_component_and_variable_is_in_the_checksum() -> None:
    item = {"name": "V", "valueFrom": {"configMapKeyRef": {"name": "carts-component", "key": "k"}}}
    assert await versions(COMPONENT, provider(memory={}), env=[item]) == {"ConfigMap/carts-component": "5"}
