"""Which objects of its namespace a Worker's pods cannot start without, and which field names each.

A pod that refers to what is not there waits without a word in its status (a volume), or with a word that does not know
the manifest. So the operator looks beforehand, by name, at metadata only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from perdure.manifests.effective import EffectiveConfig
from perdure.manifests.worker import Worker
from perdure.reconciler.api import KINDS, Cluster, Object
from perdure.reconciler.conditions import Problem, Reason
from perdure.reconciler.objects.common import config_name
from perdure.reconciler.objects.secrets import secrets_of

_MOST = 300
_NAMED = 3
_MISSING = {
    "Secret": Reason.SECRET_NOT_FOUND,
    "ConfigMap": Reason.CONFIG_MAP_NOT_FOUND,
    "PersistentVolumeClaim": Reason.CLAIM_NOT_FOUND,
    "ServiceAccount": Reason.ACCOUNT_NOT_FOUND,
}


@dataclass(frozen=True, slots=True)
class Need:
    """`field`: what names it. `fixed`: its content is read only when a pod starts. `of_component`: it is where the
    component comes from."""

    kind: str
    name: str
    field: str
    fixed: bool = False
    of_component: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """`versions`: of those whose content is fixed, for the rollout checksum."""

    versions: tuple[tuple[str, str], ...] = ()
    missing: Problem | None = None
    missing_of_component: Problem | None = None


def needs_of(worker: Worker, effective: EffectiveConfig | None) -> list[Need]:
    """At most `_MOST`, each object once. Not the component's ConfigMap: it is read, and its content has a digest."""
    found: dict[tuple[str, str, bool], Need] = {}
    for need in (*_of_spec(worker), *_of_providers(effective), *_of_template(worker)):
        former = found.setdefault((need.kind, need.name, need.of_component), need)
        if need.fixed and not former.fixed:
            found[need.kind, need.name, need.of_component] = need
    return list(found.values())[:_MOST]


def config_maps_of(worker: Worker) -> frozenset[str]:
    """All whose change concerns the Worker."""
    source = worker.spec.component.config_map
    named = {need.name for need in needs_of(worker, None) if need.kind == "ConfigMap"}
    return frozenset(named | ({source.name} if source is not None else set()))


async def look(cluster: Cluster, namespace: str, needs: list[Need]) -> Found:
    """Raises `ApiError` and what the connection raises."""
    metadata = await asyncio.gather(*(cluster.get_metadata(KINDS[need.kind], namespace, need.name) for need in needs))
    pairs = list(zip(needs, metadata, strict=True))
    missing = [need for need, found in pairs if found is None]
    versions = sorted(
        (f"{need.kind}/{need.name}", str(found["metadata"]["resourceVersion"]))
        for need, found in pairs
        if need.fixed and found is not None
    )
    return Found(
        tuple(versions),
        _problem(namespace, [need for need in missing if not need.of_component]),
        _problem(namespace, [need for need in missing if need.of_component]),
    )


def _problem(namespace: str, missing: list[Need]) -> Problem | None:
    if not missing:
        return None
    words = [f"{need.kind} {need.name} not found in namespace {namespace} ({need.field})" for need in missing[:_NAMED]]
    if len(missing) > _NAMED:
        words.append(f"and {len(missing) - _NAMED} more")
    reason = Reason.COMPONENT_NOT_FOUND if missing[0].of_component else _MISSING[missing[0].kind]
    return Problem(reason, "; ".join(words))


def _of_spec(worker: Worker) -> Iterator[Need]:
    spec = worker.spec
    for item in spec.env:
        field = f"spec.env {item.name}"
        if item.value_from is not None and item.value_from.secret_key_ref is not None:
            yield Need("Secret", item.value_from.secret_key_ref.name, field, fixed=True)
        if item.value_from is not None and item.value_from.config_map_key_ref is not None:
            yield Need("ConfigMap", item.value_from.config_map_key_ref.name, field, fixed=True)
    if spec.http.tls is not None and spec.http.tls.ca_secret_ref is not None:
        yield Need("Secret", spec.http.tls.ca_secret_ref.name, "spec.http.tls.caSecretRef", fixed=True)
    for number, files in enumerate(spec.files):
        field = f"spec.files[{number}], mountPath {files.mount_path}"
        if files.config_map is not None:
            yield Need("ConfigMap", files.config_map.name, field)
        if files.persistent_volume_claim is not None:
            yield Need("PersistentVolumeClaim", files.persistent_volume_claim.claim_name, field)
    claim = spec.component.persistent_volume_claim
    if claim is not None:
        field = "spec.component.persistentVolumeClaim"
        yield Need("PersistentVolumeClaim", claim.claim_name, field, of_component=True)
    for secret in spec.component.pull_secrets:
        yield Need("Secret", secret.name, "spec.component.pullSecrets", of_component=True)


def _of_providers(effective: EffectiveConfig | None) -> Iterator[Need]:
    for provider in effective.providers if effective is not None else ():
        for use in secrets_of(provider):
            yield Need("Secret", use.name, use.why, fixed=use.fixed)


_PATH = "spec.podTemplate.spec"


def _of_template(worker: Worker) -> Iterator[Need]:
    """What the user's pod template says must be there. Only the shape that merging needs has been checked of it."""
    spec = worker.spec.pod_template.document().get("spec", {})
    account = spec.get("serviceAccountName")
    if account and account != worker.name:
        yield Need("ServiceAccount", account, f"{_PATH}.serviceAccountName")
    found: list[Need] = []
    for volume in spec.get("volumes", ()):
        found += _of_volume(volume, f"{_PATH}.volumes {volume['name']}")
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind, ()):
            found += _of_container(container, f"{_PATH}.{kind} {container['name']}")
    # The hosts' own configuration, as a ServiceAccount of the Worker's name, is made by the operator.
    yield from (need for need in found if (need.kind, need.name) != ("ConfigMap", config_name(worker.name)))


def _of_volume(volume: Object, field: str) -> Iterator[Need]:
    yield from _named("PersistentVolumeClaim", volume.get("persistentVolumeClaim"), field, key="claimName")
    yield from _named("Secret", volume.get("secret"), field, key="secretName")
    yield from _named("ConfigMap", volume.get("configMap"), field)
    projected = volume.get("projected")
    for source in _objects(projected.get("sources") if isinstance(projected, dict) else None):
        yield from _named("Secret", source.get("secret"), field)
        yield from _named("ConfigMap", source.get("configMap"), field)


def _of_container(container: Object, field: str) -> Iterator[Need]:
    for item in container.get("env", ()):
        source = item.get("valueFrom")
        if isinstance(source, dict):
            yield from _named("Secret", source.get("secretKeyRef"), f"{field} env {item['name']}")
            yield from _named("ConfigMap", source.get("configMapKeyRef"), f"{field} env {item['name']}")
    for source in _objects(container.get("envFrom")):
        yield from _named("Secret", source.get("secretRef"), f"{field} envFrom")
        yield from _named("ConfigMap", source.get("configMapRef"), f"{field} envFrom")


def _named(kind: str, reference: object, field: str, *, key: str = "name") -> Iterable[Need]:
    """What is no reference is for the API server to refuse; what is optional may be missing."""
    name = reference.get(key) if isinstance(reference, dict) and reference.get("optional") is not True else None
    return [Need(kind, name, field)] if isinstance(name, str) and name else []


def _objects(found: object) -> list[Object]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
