"""What a Worker's objects are made from: its manifest, providers, Secrets and component, read from the cluster.

Everything that is wrong becomes a sentence for a condition; nothing here writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from perdure.errors import ManifestError, PerdureError
from perdure.manifests.base import API_VERSION
from perdure.manifests.effective import EffectiveConfig, ProviderMissing, ProviderProblem, resolve
from perdure.manifests.load import parse_provider, parse_worker
from perdure.manifests.provider import KeyValueProvider
from perdure.manifests.worker import Worker
from perdure.reconciler.api import PROVIDER, Cluster, Object
from perdure.reconciler.conditions import Problem, Reason
from perdure.reconciler.hosts import ProviderReport, by_probe
from perdure.reconciler.needs import config_maps_of, look, needs_of
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
    found = Inputs(worker=worker, uses=Uses(config_maps=config_maps_of(worker)))
    try:
        effective, probes = await _effective(cluster, worker)
        used = frozenset(provider.name for provider in effective.providers)
        found = replace(found, effective=effective, probes=probes, uses=replace(found.uses, providers=used))
    except ProviderProblem as error:
        missing = isinstance(error, ProviderMissing)
        reason = Reason.PROVIDER_NOT_FOUND if missing else Reason.PROVIDER_REFUSED
        found = replace(found, provider_error=Problem(reason, error.detail))
    there = await look(cluster, worker.namespace, needs_of(worker, found.effective))
    found = replace(
        found,
        versions=there.versions,
        reference_error=there.missing,
        component_error=there.missing_of_component,
    )
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
