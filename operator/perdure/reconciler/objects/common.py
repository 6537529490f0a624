"""Names, labels and ownership that all of a Worker's objects share, and what the builders are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perdure.manifests.effective import EffectiveConfig

Object = dict[str, Any]
LABEL = "perdure.dev/worker"
MANAGED_BY = "app.kubernetes.io/managed-by"
CONFIG_FILE = "perdure.yaml"


@dataclass(frozen=True, slots=True)
class Plan:
    """One Worker as it should be. `digest`: sha256:… of the component; `image_ref`: the pinned OCI reference.

    `versions`: of Secrets and ConfigMaps whose content pods read at start, for the rollout checksum.
    `set_replicas` False: an autoscaler owns the workload's replicas.
    """

    effective: EffectiveConfig
    digest: str
    image_ref: str | None
    host_image: str
    pull_policy: str
    versions: tuple[tuple[str, str], ...] = ()
    insecure_registries: tuple[str, ...] = ()
    set_replicas: bool = True

    @property
    def name(self) -> str:
        return self.effective.worker.name

    @property
    def namespace(self) -> str:
        return self.effective.worker.namespace

    @property
    def config_name(self) -> str:
        return config_name(self.name)

    @property
    def account(self) -> str:
        return self.effective.worker.spec.pod_template.spec.service_account_name or self.name


def config_name(name: str) -> str:
    """The ConfigMap that a Worker's hosts read."""
    return f"{name}-config"


def labels(name: str) -> dict[str, str]:
    """On every object of a Worker."""
    return {
        "app.kubernetes.io/name": "perdure-host",
        "app.kubernetes.io/instance": name,
        MANAGED_BY: "perdure",
        LABEL: name,
    }


def selector(name: str) -> dict[str, str]:
    """What finds a Worker's pods; immutable in a workload."""
    return {LABEL: name, "app.kubernetes.io/name": "perdure-host"}


def base(plan: Plan, api_version: str, kind: str, name: str) -> Object:
    """An object with metadata, owned by its Worker."""
    worker = plan.effective.worker
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": plan.namespace,
            "labels": labels(plan.name),
            "ownerReferences": [
                {
                    "apiVersion": worker.api_version,
                    "kind": worker.kind,
                    "name": worker.name,
                    "uid": worker.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
    }
