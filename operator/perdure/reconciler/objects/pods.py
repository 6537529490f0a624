"""The pod template: the host's container, hardened (pod security *restricted*), and the user's template over it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from perdure.manifests.worker import HTTP_CA, EnvVar
from perdure.reconciler.objects.common import CONFIG_FILE, Object, Plan, labels
from perdure.reconciler.objects.config import config_map
from perdure.reconciler.objects.secrets import secret_volumes

CHECKSUM = "perdure.dev/config-checksum"
CONTAINER = "host"
USER = 65532
_GRACE = 5


def pod_template(plan: Plan) -> Object:
    """What the Deployment or StatefulSet stamps out."""
    found = _template(plan)
    found["metadata"]["annotations"][CHECKSUM] = _checksum(plan, found)
    return found


def checksum(plan: Plan) -> str:
    """Tells pods of the present configuration from others: it changes when pods have to be made anew, and only then."""
    return _checksum(plan, _template(plan))


def _checksum(plan: Plan, template: Object) -> str:
    content = [config_map(plan)["data"], list(plan.versions), template]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def pod_security() -> Object:
    """Pod security *restricted*."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Object:
    """Pod security *restricted*, and a root file system that cannot be written."""
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _template(plan: Plan) -> Object:
    worker = plan.effective.worker
    seconds = -(-worker.spec.limits.invocation_timeout // 1000)
    volumes, mounts = _volumes(plan)
    ours: Object = {
        "metadata": {"labels": labels(plan.name), "annotations": {}},
        "spec": {
            "serviceAccountName": plan.account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": seconds + _GRACE + 5,
            "securityContext": pod_security(),
            "containers": [_container(plan, mounts, seconds + _GRACE)],
            "volumes": volumes,
        },
    }
    merged: Object = _merge(ours, worker.spec.pod_template.document())
    # Services stand on these labels, rollouts on the checksum; a template cannot take them away.
    merged["metadata"]["labels"] |= labels(plan.name)
    merged["metadata"]["annotations"].pop(CHECKSUM, None)
    merged["spec"]["automountServiceAccountToken"] = False
    return merged


def _container(plan: Plan, mounts: list[Object], grace: int) -> Object:
    worker = plan.effective.worker
    arguments = [
        "host",
        "--manifest",
        f"/etc/perdure/config/{CONFIG_FILE}",
        "--worker",
        f"{worker.namespace}/{worker.name}",
        "--listen",
        "0.0.0.0:8080",
        "--metrics-listen",
        "0.0.0.0:9090",
        "--grace",
        str(grace),
        "--component-digest",
        plan.digest,
    ]
    for registry in plan.insecure_registries:
        arguments += ["--insecure-registry", registry]
    source = worker.spec.component
    if source.config_map is not None:
        arguments += ["--component-file", f"/etc/perdure/component/{source.config_map.key}"]
    elif source.persistent_volume_claim is not None:
        arguments += ["--component-file", f"/etc/perdure/component/{source.persistent_volume_claim.path}"]
    return {
        "name": CONTAINER,
        "image": plan.host_image,
        "imagePullPolicy": plan.pull_policy,
        "args": arguments,
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            *(_variable(item) for item in worker.spec.env if item.value_from is not None),
        ],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
        "securityContext": container_security(),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "startupProbe": {**_probe("/readyz"), "periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {**_probe("/healthz"), "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": mounts,
    }


def _probe(path: str) -> Object:
    return {"httpGet": {"path": path, "port": "metrics"}, "timeoutSeconds": 2}


def _variable(item: EnvVar) -> Object:
    """Under a name of its own, so that nothing of the process' environment can be overridden."""
    assert item.value_from is not None
    name = "PERDURE_GUEST_" + "".join(char if char.isalnum() or char == "_" else "_" for char in item.name)
    return {"name": name, "valueFrom": item.value_from.model_dump(by_alias=True, exclude_none=True)}


def _volumes(plan: Plan) -> tuple[list[Object], list[Object]]:
    volumes: list[Object] = [
        {"name": "config", "configMap": {"name": plan.config_name}},
        {"name": "cache", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts: list[Object] = [
        {"name": "config", "mountPath": "/etc/perdure/config", "readOnly": True},
        {"name": "cache", "mountPath": "/var/cache/perdure"},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod
    ]

    def add(name: str, source: Object, path: str) -> None:
        volumes.append({"name": name, **source})
        mounts.append({"name": name, "mountPath": path, "readOnly": True})

    component = plan.effective.worker.spec.component
    if component.config_map is not None:
        add("component", {"configMap": {"name": component.config_map.name}}, "/etc/perdure/component")
    elif component.persistent_volume_claim is not None:
        claim = {"claimName": component.persistent_volume_claim.claim_name, "readOnly": True}
        add("component", {"persistentVolumeClaim": claim}, "/etc/perdure/component")
    for index, files in enumerate(plan.effective.worker.spec.files):
        if files.config_map is not None:
            add(f"files-{index}", {"configMap": {"name": files.config_map.name}}, f"/etc/perdure/files/{index}")
        elif files.persistent_volume_claim is not None:
            claim = {"claimName": files.persistent_volume_claim.claim_name, "readOnly": True}
            add(f"files-{index}", {"persistentVolumeClaim": claim}, f"/etc/perdure/files/{index}")
            if files.persistent_volume_claim.path:
                mounts[-1]["subPath"] = files.persistent_volume_claim.path
    for index, secret in enumerate(component.pull_secrets):
        add(f"pull-{index}", {"secret": {"secretName": secret.name}}, f"/etc/perdure/secrets/pull-{index}")
    for index, provider in enumerate(plan.effective.providers):
        for volume, mount in secret_volumes(index, provider):
            volumes.append(volume)
            mounts.append(mount)
    tls = plan.effective.worker.spec.http.tls
    if tls is not None and tls.ca_secret_ref is not None:
        # Optional: a Job that deletes data needs none of it, and a host says what is missing.
        items = [{"key": tls.ca_secret_ref.key, "path": tls.ca_secret_ref.key}]
        ca_source = {"secret": {"secretName": tls.ca_secret_ref.name, "items": items, "optional": True}}
        add("http-ca", ca_source, f"/etc/perdure/secrets/{HTTP_CA}")
    if plan.effective.home.spec.sqlite is not None:
        mounts.append({"name": "data", "mountPath": "/var/lib/perdure"})
    return volumes, mounts


_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
_MERGED_WITHIN = ("containers", "initContainers")


def _merge(ours: Any, theirs: Any, field: str = "") -> Any:
    """Theirs over ours; keyed lists item by item, with the keys of Kubernetes' strategic merge.

    Within a container fields are merged. A volume or a variable takes the place of ours whole: half of each would be
    two sources of one value.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        both = {**ours, **theirs}
        return {name: _merge(ours[name], both[name], name) if name in ours else both[name] for name in both}
    if field in _KEYS and isinstance(ours, list) and isinstance(theirs, list):
        key = _KEYS[field]
        merged = {item[key]: item for item in ours}
        for item in theirs:
            found = merged.get(item[key])
            merged[item[key]] = _merge(found, item) if found is not None and field in _MERGED_WITHIN else item
        return list(merged.values())
    return theirs
