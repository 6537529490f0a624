"""The Job that looks at a provider: the host image with `perdure probe`, the provider's manifest and its Secrets.

The manifest travels in an annotation of the pod, which the downward API shows as a file: the Job is one object, and
nothing but it has to be cleared away. It belongs to its KeyValueProvider and goes with it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import yaml

from perdure.manifests.probe_pod import ProbePod
from perdure.manifests.provider import KeyValueProvider
from perdure.reconciler.objects.common import CONFIG_FILE, MANAGED_BY, Object
from perdure.reconciler.objects.config import client_document
from perdure.reconciler.objects.pods import container_security, pod_security
from perdure.reconciler.objects.secrets import secret_volumes

LABEL = "perdure.dev/probe"
"""On the Job and its pod: which provider they look at. Network policies of stores let such pods in."""
CHECKSUM = "perdure.dev/probe-checksum"
_MANIFEST = "perdure.dev/manifest"
CONTAINER = "probe"
_REPORT = "/dev/termination-log"
_FOLDER = "/etc/perdure/config"
_SECONDS = 120
_TIME_TO_LIVE = 300
_SCHEDULING = {"node_selector", "tolerations", "affinity", "priority_class_name"}


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """`versions`: of the provider's Secrets. `pull_secrets`: of the host image, in `namespace`."""

    provider: KeyValueProvider
    namespace: str
    host_image: str
    pull_policy: str
    pull_secrets: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Of the Job: there is never more than one for a provider."""
        return f"perdure-probe-{label_of(self.provider.name)}"

    @property
    def manifest(self) -> str:
        return yaml.safe_dump(client_document(self.provider), sort_keys=True)

    @property
    def place(self) -> str:
        """Changes when another server, or from elsewhere, is looked at."""
        return _digest([self.manifest, self.namespace])

    @property
    def shape(self) -> str:
        """Changes when the pod is asked for otherwise: one that waits for its node must not be waited for."""
        pod = self.provider.spec.probe.pod
        return _digest(pod.model_dump(mode="json")) if pod != ProbePod() else ""

    @property
    def checksum(self) -> str:
        """Changes when what was found may not hold any more."""
        parts = [self.place, _digest(list(self.versions)), self.shape]
        return ".".join(part for part in parts if part)


def label_of(name: str) -> str:
    """A provider's name as a label's value and part of a Job's name; both are shorter than it may be."""
    if len(name) <= 40 and "." not in name:
        return name
    return f"{name[:31].replace('.', '-').rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def probe_job(plan: ProbePlan) -> Object:
    """Runs once and for two minutes at most: what failed is tried again by the operator, which knows how often."""
    mounted, asked = secret_volumes(0, plan.provider), plan.provider.spec.probe.pod
    manifest = {"path": CONFIG_FILE, "fieldRef": {"fieldPath": f"metadata.annotations['{_MANIFEST}']"}}
    labels = {"app.kubernetes.io/name": "perdure-probe", MANAGED_BY: "perdure", LABEL: label_of(plan.provider.name)}
    container: Object = {
        "name": CONTAINER,
        "image": plan.host_image,
        "imagePullPolicy": plan.pull_policy,
        "args": ["probe", "--manifest", f"{_FOLDER}/{CONFIG_FILE}", "--report", _REPORT, "--output", "json"],
        "terminationMessagePath": _REPORT,
        "terminationMessagePolicy": "File",
        "securityContext": container_security(),
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi"} | asked.resources.requests,
            "limits": {"cpu": "1", "memory": "256Mi"} | asked.resources.limits,
        },
        "volumeMounts": [
            {"name": "config", "mountPath": _FOLDER, "readOnly": True},
            *(mount for _, mount in mounted),
        ],
    }
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [
            {"name": "config", "downwardAPI": {"items": [manifest]}},
            *(volume for volume, _ in mounted),
        ],
    }
    secrets = dict.fromkeys([*plan.pull_secrets, *(secret.name for secret in asked.image_pull_secrets)])
    if secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in secrets]
    pod |= asked.model_dump(mode="json", by_alias=True, exclude_unset=True, include=_SCHEDULING)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": plan.name,
            "namespace": plan.namespace,
            "labels": labels,
            "annotations": {CHECKSUM: plan.checksum},
            "ownerReferences": [
                {
                    "apiVersion": plan.provider.api_version,
                    "kind": plan.provider.kind,
                    "name": plan.provider.name,
                    "uid": plan.provider.metadata.uid,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "activeDeadlineSeconds": _SECONDS,
            "ttlSecondsAfterFinished": _TIME_TO_LIVE,
            "backoffLimit": 0,
            "template": {
                "metadata": {
                    "labels": dict(asked.labels) | labels,
                    "annotations": dict(asked.annotations) | {_MANIFEST: plan.manifest},
                },
                "spec": pod,
            },
        },
    }


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
