"""Manifests that the tests share."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def worker(name: str = "counter", **spec: Any) -> Object:
    """The counting guest from the namespace's ConfigMap `counter`, with three hosts unless said otherwise."""
    return {
        "apiVersion": "perdure.dev/v1alpha1",
        "kind": "Worker",
        "metadata": {"name": name},
        "spec": {
            "component": {"configMap": {"name": "counter"}},
            "replicas": 3,
            # A killed pod is replaced as soon as it is gone.
            "limits": {"invocationTimeout": "10s"},
            **spec,
        },
    }


def provider(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "perdure.dev/v1alpha1",
        "kind": "KeyValueProvider",
        "metadata": {"name": name},
        "spec": spec,
    }
