"""The ConfigMap that hosts read, and the ServiceAccount they run under (without a token)."""

from __future__ import annotations

from typing import Any

import yaml

from perdure.reconciler.objects.common import CONFIG_FILE, Object, Plan, base


def service_account(plan: Plan) -> Object:
    return {**base(plan, "v1", "ServiceAccount", plan.name), "automountServiceAccountToken": False}


def config_map(plan: Plan) -> Object:
    """The Worker and its providers as the manifests that `perdure host --manifest` reads."""
    documents = [_worker(plan), *(_provider(plan, index) for index in range(len(plan.effective.providers)))]
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


def _provider(plan: Plan, index: int) -> dict[str, Any]:
    provider = plan.effective.providers[index]
    spec = provider.spec.model_dump(by_alias=True, exclude={"default", "allowed_namespaces"}, exclude_none=True)
    return {
        "apiVersion": provider.api_version,
        "kind": provider.kind,
        "metadata": {"name": provider.name},
        "spec": _with_units(spec),
    }


_MILLISECONDS = ("ttl", "resultRetention", "invocationTimeout", "timeout")


def _with_units(node: Any) -> Any:
    """Durations back to text with a unit, tuples to lists: what YAML and the models read."""
    if isinstance(node, dict):
        return {
            name: f"{value}ms" if name in _MILLISECONDS and isinstance(value, int) else _with_units(value)
            for name, value in node.items()
        }
    return [_with_units(item) for item in node] if isinstance(node, (list, tuple)) else node
