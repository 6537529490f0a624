"""The ConfigMap that hosts read, and the ServiceAccount they run under (without a token)."""

from __future__ import annotations

from typing import Any

import yaml

from perdure.manifests.provider import KeyValueProvider
from perdure.reconciler.objects.common import CONFIG_FILE, Object, Plan, base


def service_account(plan: Plan) -> Object:
    return {**base(plan, "v1", "ServiceAccount", plan.name), "automountServiceAccountToken": False}


def config_map(plan: Plan) -> Object:
    """The Worker and its providers as the manifests that `perdure host --manifest` reads."""
    documents = [_worker(plan), *map(_provider, plan.effective.providers)]
    text = yaml.safe_dump_all(documents, sort_keys=True)
    return {**base(plan, "v1", "ConfigMap", plan.config_name), "data": {CONFIG_FILE: text}}


def _worker(plan: Plan) -> dict[str, Any]:
    worker = plan.effective.worker
    spec = worker.spec.model_dump(by_alias=True, exclude={"pod_template", "replicas", "service"}, exclude_none=True)
    spec = _with_units(spec)
    if plan.image_ref is not None:
        spec["component"]["image"] = plan.image_ref
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
    return {
        "apiVersion": provider.api_version,
        "kind": provider.kind,
        "metadata": {"name": provider.name},
        "spec": _with_units(spec),
    }


def _provider(provider: KeyValueProvider) -> Object:
    """As hosts read it: what concerns only the choice of a provider must not restart them."""
    found = provider_document(provider)
    for field in ("default", "allowedNamespaces"):
        found["spec"].pop(field, None)
    return found


_MILLISECONDS = ("ttl", "resultRetention", "invocationTimeout", "timeout")


def _with_units(node: Any) -> Any:
    """Durations back to text with a unit, tuples to lists: what YAML and the models read."""
    if isinstance(node, dict):
        return {
            name: f"{value}ms" if name in _MILLISECONDS and isinstance(value, int) else _with_units(value)
            for name, value in node.items()
        }
    return [_with_units(item) for item in node] if isinstance(node, (list, tuple)) else node
