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


def restricted_pod(name: str, *containers: Object, volumes: list[Object] | None = None, **spec: Any) -> Object:
    """A pod that a *restricted* namespace admits; found by the label `app`."""
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{"securityContext": security, **container} for container in containers],
            "volumes": volumes or [],
            **spec,
        },
    }


def service_of(name: str, port: int, target: int) -> Object:
    """In front of the pod of that name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]},
    }
