"""What a Worker's objects are made from: its manifest, providers, Secrets and component, read from the cluster.

Everything that is wrong becomes a sentence for a condition; nothing here writes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from perdure.errors import ManifestError, PerdureError
from perdure.manifests.base import API_VERSION
from perdure.manifests.effective import EffectiveConfig, ProviderMissing, ProviderProblem, resolve
from perdure.manifests.load import parse_provider, parse_worker
from perdure.manifests.provider import KeyValueProvider
from perdure.manifests.worker import Worker
from perdure.reconciler.api import KINDS, PROVIDER, Cluster, Object
from perdure.reconciler.conditions import Problem, Reason
from perdure.reconciler.hosts import ProviderReport, by_probe
from perdure.reconciler.objects.secrets import secrets_of
from perdure.reconciler.references import Uses
from perdure.reconciler.resolution import ComponentRefused, Pin, resolve_component


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where there is no error there is None. `versions`: of objects whose content pods read only when they start;
    `probes`: what the providers' own status says of them."""

    worker: Worker | None = None
    effective: EffectiveConfig | None = None
    pin: Pin | None = None
    versions: tuple[tuple[str, str], ...] = ()
    uses: Uses = Uses()
    probes: tuple[tuple[str, ProviderReport], ...] = ()
    spec_error: str | None = None
    provider_error: Problem | None = None
    reference_error: Problem | None = None
    component_error: Problem | None = None

    @property
    def complete(self) -> bool:
        return (self.spec_error or self.provider_error or self.reference_error or self.component_error) is None


async def gather(cluster: Cluster, document: Object, insecure: tuple[str, ...]) -> Inputs:
    """Read all inputs. Raises `ApiError` and what the connection raises: those are no fault of the manifest."""
    try:
        worker = parse_worker(document)
    except ManifestError as error:
        return Inputs(spec_error=error.detail)
    if document["metadata"].get("deletionTimestamp"):
        # How many hosts there should be is no question any more, so that it cannot stand in the way of a purge.
        worker = worker.model_copy(update={"spec": worker.spec.model_copy(update={"replicas": 0})})
    found = Inputs(worker=worker, uses=Uses(config_maps=_config_maps(worker)))
    try:
        effective, probes = await _effective(cluster, worker)
        used = frozenset(provider.name for provider in effective.providers)
        found = replace(found, effective=effective, probes=probes, uses=replace(found.uses, providers=used))
    except ProviderProblem as error:
        missing = isinstance(error, ProviderMissing)
        reason = Reason.PROVIDER_NOT_FOUND if missing else Reason.PROVIDER_REFUSED
        found = replace(found, provider_error=Problem(reason, error.detail))
    versions, reference_error = await _referred(cluster, worker, found.effective)
    found = replace(found, versions=versions, reference_error=reference_error)
    try:
        status = document.get("status") or {}
        pin = await resolve_component(cluster, worker.namespace, worker.spec.component, status, insecure)
        return replace(found, pin=pin)
    except ComponentRefused as error:
        return replace(found, component_error=Problem(Reason.COMPONENT_REFUSED, error.detail))
    except PerdureError as error:
        return replace(found, component_error=Problem(Reason.COMPONENT_NOT_FOUND, error.detail))


async def _effective(
    cluster: Cluster, worker: Worker
) -> tuple[EffectiveConfig, tuple[tuple[str, ProviderReport], ...]]:
    providers: list[KeyValueProvider] = []
    probes: dict[str, ProviderReport] = {}
    broken: dict[str, str] = {}
    for document in await cluster.list(PROVIDER):
        name = document["metadata"]["name"]
        probes[name] = by_probe(document.get("status") or {})
        try:
            providers.append(parse_provider({**document, "kind": "KeyValueProvider", "apiVersion": API_VERSION}))
        except ManifestError as error:
            broken[name] = error.detail
    try:
        effective = resolve(worker, providers)
        return effective, tuple((provider.name, probes[provider.name]) for provider in effective.providers)
    except ProviderProblem:
        wanted = [worker.spec.key_value.provider, *(bucket.provider for bucket in worker.spec.key_value.buckets)]
        for name in wanted:
            if name in broken:
                raise ProviderProblem(f"KeyValueProvider {name} is not valid: {broken[name]}") from None
        raise


def _config_maps(worker: Worker) -> frozenset[str]:
    """All whose change concerns the Worker."""
    source = worker.spec.component.config_map
    return frozenset({*_env_config_maps(worker), *([source.name] if source is not None else [])})


def _env_config_maps(worker: Worker) -> dict[str, str]:
    """ConfigMap → which variable refers to it."""
    return {
        item.value_from.config_map_key_ref.name: f"spec.env {item.name}"
        for item in worker.spec.env
        if item.value_from is not None and item.value_from.config_map_key_ref is not None
    }


async def _referred(
    cluster: Cluster, worker: Worker, effective: EffectiveConfig | None
) -> tuple[tuple[tuple[str, str], ...], Problem | None]:
    """Versions for the checksum, and the first object that is missing.

    Only metadata is read. A provider's password is not in the checksum: hosts read the mounted file at each connect.
    Nor is the component's ConfigMap: its content has a digest of its own.
    """
    pairs = [("Secret", name, why, fixed) for name, (why, fixed) in _secrets(worker, effective).items()]
    pairs += [("ConfigMap", name, why, True) for name, why in _env_config_maps(worker).items()]
    found = await asyncio.gather(
        *(cluster.get_metadata(KINDS[kind], worker.namespace, name) for kind, name, _, _ in pairs)
    )
    versions = []
    missing: Problem | None = None
    for (kind, name, why, fixed), metadata in zip(pairs, found, strict=True):
        if metadata is None:
            reason = Reason.SECRET_NOT_FOUND if kind == "Secret" else Reason.CONFIG_MAP_NOT_FOUND
            missing = missing or Problem(reason, f"{kind} {name} not found in namespace {worker.namespace} ({why})")
        elif fixed:
            versions.append((f"{kind}/{name}", str(metadata["metadata"]["resourceVersion"])))
    return tuple(sorted(versions)), missing


def _secrets(worker: Worker, effective: EffectiveConfig | None) -> dict[str, tuple[str, bool]]:
    """Secret → (who refers to it, whether its content is read only at start)."""
    found: dict[str, tuple[str, bool]] = {}
    for item in worker.spec.env:
        if item.value_from is not None and item.value_from.secret_key_ref is not None:
            found[item.value_from.secret_key_ref.name] = (f"spec.env {item.name}", True)
    http = worker.spec.http.tls
    if http is not None and http.ca_secret_ref is not None:
        found[http.ca_secret_ref.name] = ("spec.http.tls.caSecretRef", True)
    for provider in effective.providers if effective is not None else ():
        for use in secrets_of(provider):
            if use.fixed or use.name not in found:
                found[use.name] = (use.why, use.fixed)
    return found
