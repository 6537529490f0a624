"""The ConfigMap that hosts read, and the ServiceAccount they run under (without a token)."""

from __future__ import annotations

from typing import Any

import yaml

from perdure.manifests.provider import KeyValueProvider, Probe
from perdure.reconciler.objects.common import CONFIG_FILE, Object, Plan, base


def service_account(plan: Plan) -> Object:
    return {**base(plan, "v1", "ServiceAccount", plan.name), "automountServiceAccountToken": False}


def config_map(plan: Plan) -> Object:
    """The Worker and its providers as the manifests that `perdure host --manifest` reads."""
    return {**base(plan, "v1", "ConfigMap", plan.config_name), "data": manifests(plan)}


def manifests(plan: Plan, *, leave_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """The ConfigMap's data. `leave_out`: fields of the Worker's spec.

    Only what hosts read is in it: whatever else a manifest says must not restart them.
    """
    documents = [_worker(plan, leave_out | _NOT_FOR_HOSTS), *map(client_document, plan.effective.providers)]
    return {CONFIG_FILE: yaml.safe_dump_all(documents, sort_keys=True)}


_NOT_FOR_CLIENTS = ("default", "allowedNamespaces", "minDurability", "probe")
_NOT_FOR_HOSTS = frozenset({"pod_template", "replicas", "service", "deletion_policy"})


def _worker(plan: Plan, leave_out: frozenset[str]) -> dict[str, Any]:
    worker = plan.effective.worker
    spec = worker.spec.model_dump(by_alias=True, exclude=set(leave_out), exclude_none=True)
    spec = _listed(spec)
    if plan.image_ref is not None:
        spec["component"]["image"] = plan.image_ref
    if worker.spec.component.url is None and worker.spec.component.persistent_volume_claim is None:
        spec["component"].pop("sha256", None)  # the pinned digest, which hosts are given, has been checked against it
    spec["keyValue"]["provider"] = plan.effective.home.name
    return {
        "apiVersion": worker.api_version,
        "kind": worker.kind,
        "metadata": {"name": worker.name, "namespace": worker.namespace},
        "spec": spec,
    }


def provider_document(provider: KeyValueProvider) -> Object:
    """The whole resource, as it would be written by hand."""
    spec = provider.spec.model_dump(by_alias=True, exclude_none=True)
    if provider.spec.probe == Probe():
        del spec["probe"]  # what it does not say, somebody else may
    return {
        "apiVersion": provider.api_version,
        "kind": provider.kind,
        "metadata": {"name": provider.name},
        "spec": _listed(spec),
    }


def client_document(provider: KeyValueProvider) -> Object:
    """As hosts and probes read it: without what concerns the choice of a provider, or the making of a volume."""
    found = provider_document(provider)
    for field in _NOT_FOR_CLIENTS:
        found["spec"].pop(field, None)
    if provider.spec.sqlite is not None:
        found["spec"]["sqlite"] = {}
    return found


def _listed(node: Any) -> Any:
    """Tuples to lists: what YAML and the models read."""
    if isinstance(node, dict):
        return {name: _listed(value) for name, value in node.items()}
    return [_listed(item) for item in node] if isinstance(node, (list, tuple)) else node
