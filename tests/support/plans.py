"""Plans and API objects for tests of the reconciler's pure parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from perdure.manifests.effective import resolve
from perdure.manifests.load import parse_provider, parse_worker
from perdure.reconciler.objects.common import Plan

API = "perdure.dev/v1alpha1"
DIGEST = "sha256:" + "d" * 64
UID = "11111111-2222-3333-4444-555555555555"
REDIS = {"redis": {"url": "redis://redis.default.svc:6379/0"}}
SQLITE: dict[str, Any] = {"sqlite": {"size": "2Gi", "storageClassName": "fast"}}
SECURE = {
    "redis": {
        "url": "rediss://redis:6379/0",
        "credentialsSecretRef": {"name": "redis-auth"},
        "tls": {"caSecretRef": {"name": "redis-ca", "key": "authority.pem"}},
    }
}

POSTGRES = {
    "postgres": {
        "url": "postgres://pg:5432/app",
        "credentialsSecretRef": {"name": "pg-auth"},
        "tls": {"caSecretRef": {"name": "pg-ca"}},
    }
}


def worker_document(name: str = "carts", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "Worker",
        "metadata": {"name": name, "namespace": "shop", "uid": UID, "generation": 3},
        "spec": {"component": {"configMap": {"name": "carts-component"}}, **spec},
    }


def plan(
    *, providers: Mapping[str, Mapping[str, Any]] | None = None, changes: Mapping[str, Any] | None = None, **spec: Any
) -> Plan:
    """`providers`: specs by name, the first is the default one. `changes`: fields of the Plan."""
    documents = [
        {"apiVersion": API, "kind": "KeyValueProvider", "metadata": {"name": name},
         "spec": {"default": number == 0, **found}}
        for number, (name, found) in enumerate((providers or {"main": REDIS}).items())
    ]  # fmt: skip
    effective = resolve(parse_worker(worker_document(**spec)), [parse_provider(found) for found in documents])
    made = Plan(effective, DIGEST, None, "perdure:1", "IfNotPresent")
    return dataclasses.replace(made, **(changes or {}))
