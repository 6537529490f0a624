"""What a Worker's pods cannot start without: every field that names an object is known by its name."""

from __future__ import annotations

from typing import Any, cast

import pytest

from perdure.manifests.load import parse_worker
from perdure.reconciler.api import Cluster
from perdure.reconciler.conditions import Reason
from perdure.reconciler.inputs import Inputs, gather
from perdure.reconciler.needs import config_maps_of, needs_of
from support.memory_cluster import MemoryCluster
from support.plans import SECURE, worker_document

Object = dict[str, Any]
URL = {"url": "https://a.test/x.wasm", "sha256": "d" * 64}
SPEC = "spec.podTemplate.spec"


def template(**spec: Any) -> Object:
    return {"podTemplate": {"spec": spec}}


def reference(kind: str, **more: object) -> Object:
    return {"valueFrom": {kind: {"name": "x", "key": "k", **more}}}


# What is named, as the Worker says it: the object, and the field in the message.
NAMED: list[tuple[Object, str, str]] = [
    ({"env": [{"name": "A", **reference("secretKeyRef")}]}, "Secret", "spec.env A"),
    ({"env": [{"name": "A", **reference("configMapKeyRef")}]}, "ConfigMap", "spec.env A"),
    ({"http": {"tls": {"caSecretRef": {"name": "x"}}}}, "Secret", "spec.http.tls.caSecretRef"),
    ({"files": [{"mountPath": "/a", "configMap": {"name": "x"}}]}, "ConfigMap", "spec.files[0], mountPath /a"),
    ({"files": [{"mountPath": "/a", "persistentVolumeClaim": {"claimName": "x"}}]}, "PersistentVolumeClaim",
     "spec.files[0], mountPath /a"),
    (template(serviceAccountName="x"), "ServiceAccount", f"{SPEC}.serviceAccountName"),
    (template(volumes=[{"name": "v", "configMap": {"name": "x"}}]), "ConfigMap", f"{SPEC}.volumes v"),
    (template(volumes=[{"name": "v", "secret": {"secretName": "x"}}]), "Secret", f"{SPEC}.volumes v"),
    (template(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]), "PersistentVolumeClaim",
     f"{SPEC}.volumes v"),
    (template(volumes=[{"name": "v", "projected": {"sources": [{"secret": {"name": "x"}}]}}]), "Secret",
     f"{SPEC}.volumes v"),
    (template(volumes=[{"name": "v", "projected": {"sources": [{"configMap": {"name": "x"}}]}}]), "ConfigMap",
     f"{SPEC}.volumes v"),
    (template(containers=[{"name": "c", "env": [{"name": "E", **reference("secretKeyRef")}]}]), "Secret",
     f"{SPEC}.containers c env E"),
    (template(initContainers=[{"name": "c", "env": [{"name": "E", **reference("configMapKeyRef")}]}]), "ConfigMap",
     f"{SPEC}.initContainers c env E"),
    (template(containers=[{"name": "c", "envFrom": [{"secretRef": {"name": "x"}}]}]), "Secret",
     f"{SPEC}.containers c envFrom"),
    (template(containers=[{"name": "c", "envFrom": [{"configMapRef": {"name": "x"}}]}]), "ConfigMap",
     f"{SPEC}.containers c envFrom"),
]  # fmt: skip
REASONS = {
    "Secret": Reason.SECRET_NOT_FOUND,
    "ConfigMap": Reason.CONFIG_MAP_NOT_FOUND,
    "PersistentVolumeClaim": Reason.CLAIM_NOT_FOUND,
    "ServiceAccount": Reason.ACCOUNT_NOT_FOUND,
}


async def gathered(cluster: MemoryCluster, **spec: Any) -> Inputs:
    return await gather(cast("Cluster", cluster), worker_document(**{"component": URL, **spec}), ())


def cluster_with(*objects: Object, **provider: Any) -> MemoryCluster:
    spec = {"default": True, **(provider or {"memory": {}})}
    return MemoryCluster({"kind": "KeyValueProvider", "metadata": {"name": "main"}, "spec": spec}, *objects)


def there(kind: str, name: str = "x", version: str = "1") -> Object:
    return {"kind": kind, "metadata": {"name": name, "resourceVersion": version}}


@pytest.mark.parametrize(("spec", "kind", "field"), NAMED, ids=lambda value: value if isinstance(value, str) else "")
async def test_what_is_missing_is_named_until_it_is_there(spec: Object, kind: str, field: str) -> None:
    found = await gathered(cluster_with(), **spec)
    assert found.reference_error is not None
    assert found.reference_error.reason is REASONS[kind]
    assert found.reference_error.message == f"{kind} x not found in namespace shop ({field})"
    assert not found.complete
    assert (await gathered(cluster_with(there(kind)), **spec)).complete
    # Of another kind it is another object.
    other = next(name for name in REASONS if name != kind)
    assert not (await gathered(cluster_with(there(other)), **spec)).complete


@pytest.mark.parametrize(
    "spec",
    [
        template(volumes=[{"name": "v", "configMap": {"name": "x", "optional": True}}]),
        template(volumes=[{"name": "v", "secret": {"secretName": "x", "optional": True}}]),
        template(containers=[{"name": "c", "env": [{"name": "E", **reference("secretKeyRef", optional=True)}]}]),
        template(containers=[{"name": "c", "envFrom": [{"configMapRef": {"name": "x", "optional": True}}]}]),
        # Made by the operator, with the pods.
        template(volumes=[{"name": "v", "configMap": {"name": "carts-config"}}]),
        template(serviceAccountName="carts"),
        # No references at all: the API server says what is wrong with them.
        template(volumes=[{"name": "v", "configMap": "x"}, {"name": "w", "secret": {"secretName": 7}}]),
        template(volumes=[{"name": "v", "projected": {"sources": "x"}}, {"name": "w", "projected": ["x"]}]),
        template(containers=[{"name": "c", "envFrom": {"x": "y"}, "env": [{"name": "E", "valueFrom": "x"}]}]),
    ],
)
async def test_what_may_be_missing(spec: Object) -> None:
    assert (await gathered(cluster_with(), **spec)).complete


async def test_where_the_component_comes_from_concerns_the_component() -> None:
    claim = {"persistentVolumeClaim": {"claimName": "x", "path": "a.wasm"}, "sha256": "d" * 64}
    found = await gathered(cluster_with(), component=claim)
    assert found.component_error is not None
    assert found.component_error.reason is Reason.COMPONENT_NOT_FOUND
    assert found.component_error.message == (
        "PersistentVolumeClaim x not found in namespace shop (spec.component.persistentVolumeClaim)"
    )
    assert found.reference_error is None
    assert (await gathered(cluster_with(there("PersistentVolumeClaim")), component=claim)).complete


async def test_a_pull_secret_is_missed_when_the_image_has_long_been_resolved() -> None:
    """Hosts mount it, too."""
    document = worker_document(component={"image": "r.test/carts:1", "pullSecrets": [{"name": "x"}]})
    source = f"image r.test/carts:1@sha256:{'e' * 64}"
    document["status"] = {"component": {"digest": "sha256:" + "d" * 64, "source": source}}
    missed = await gather(cast("Cluster", cluster_with()), document, ())
    assert missed.component_error is not None
    assert "Secret x not found in namespace shop (spec.component.pullSecrets)" in missed.component_error.message
    assert (await gather(cast("Cluster", cluster_with(there("Secret"))), document, ())).complete


async def test_all_that_is_missing_is_told_at_once_within_reason() -> None:
    env = [{"name": f"E{n}", "valueFrom": {"secretKeyRef": {"name": f"s{n}", "key": "k"}}} for n in range(5)]
    found = await gathered(cluster_with(there("Secret", "s0")), env=env)
    assert found.reference_error is not None
    assert [part.split(" not")[0] for part in found.reference_error.message.split("; ")] == [
        "Secret s1", "Secret s2", "Secret s3", "and 1 more"
    ]  # fmt: skip


async def test_a_secret_that_is_read_at_start_by_anybody_is_in_the_checksum() -> None:
    shared = SECURE["redis"] | {"tls": {"caSecretRef": {"name": "redis-auth"}}}
    objects = [there("Secret", "redis-auth", "7"), there("Secret", "x")]
    mounted = template(volumes=[{"name": "v", "secret": {"secretName": "redis-auth"}}])
    assert dict((await gathered(cluster_with(*objects, redis=shared), **mounted)).versions) == {
        "Secret/redis-auth": "7"
    }
    # The control: what only files and templates mount is kept up to date by the node.
    for spec, kind, _ in NAMED[3:]:
        assert (await gathered(cluster_with(there(kind)), **spec)).versions == ()


def test_a_change_of_any_config_map_that_is_named_concerns_the_worker() -> None:
    for spec, kind, _ in NAMED:
        worker = parse_worker(worker_document(**{"component": URL, **spec}))
        assert config_maps_of(worker) == ({"x"} if kind == "ConfigMap" else set())
    assert config_maps_of(parse_worker(worker_document())) == {"carts-component"}


def test_a_template_without_end_is_not_looked_at_to_its_end() -> None:
    volumes = [{"name": f"v{n}", "secret": {"secretName": f"s{n}"}} for n in range(10_000)]
    assert len(needs_of(parse_worker(worker_document(**template(volumes=volumes))), None)) == 300
