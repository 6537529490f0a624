"""The Job that deletes a Worker's data, or merely ends its watches: the host image with `perdure purge`, the same
providers and their Secrets.

Neither the Job nor its ConfigMap is owned by the Worker: a foreground deletion would take owned objects away before
the data is. They name the Worker they were made for by its uid instead. The operator deletes both when the Job is done;
the Job's own time to live is the second line.
"""

from __future__ import annotations

import enum

from perdure.reconciler.objects.common import CONFIG_FILE, Object, Plan, base, labels
from perdure.reconciler.objects.config import manifests
from perdure.reconciler.objects.pods import CONTAINER, pod_template

_KEPT_FROM_TEMPLATE = (
    "automountServiceAccountToken",
    "securityContext",
    "imagePullSecrets",
    "nodeSelector",
    "tolerations",
    "affinity",
    "priorityClassName",
)
_TIME_TO_LIVE = 600
FOR_UID = "perdure.dev/purged-worker-uid"


class Clearing(enum.StrEnum):
    """What is cleared away with a Worker; how the names of the Job and of its ConfigMap end."""

    DATA = "purge"
    WATCHES = "unwatch"


def purge_name(name: str, what: Clearing) -> str:
    """Of the Job and of its ConfigMap."""
    return f"{name}-{what.value}"


def purge_config(plan: Plan, what: Clearing) -> Object:
    """The hosts' configuration without the guest's variables: Secrets they come from may be gone by now."""
    return {**_unowned(plan, what, "v1", "ConfigMap"), "data": manifests(plan, leave_out=frozenset({"env"}))}


def purge_job(plan: Plan, what: Clearing, seconds: int) -> Object:
    """Runs for at most `seconds`. Its pods are none of the Worker's: they carry another label."""
    template = pod_template(plan)["spec"]
    host = next(item for item in template["containers"] if item["name"] == CONTAINER)
    container = {
        **{name: host[name] for name in ("image", "imagePullPolicy", "securityContext", "resources")},
        "name": "purge",
        "args": [
            "purge",
            "--manifest",
            f"/etc/perdure/config/{CONFIG_FILE}",
            "--worker",
            f"{plan.namespace}/{plan.name}",
            *(["--watches-only"] if what is Clearing.WATCHES else []),
        ],
        "volumeMounts": [
            *(mount for mount in host["volumeMounts"] if _needed(mount["name"])),
            {"name": "scratch", "mountPath": "/var/lib/perdure"},
        ],
    }
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    volumes = [volume for volume in template["volumes"] if volume["name"] in mounted]
    for volume in volumes:
        if volume["name"] == "config":
            volume["configMap"] = {"name": purge_name(plan.name, what)}
    pod = {
        **{name: template[name] for name in _KEPT_FROM_TEMPLATE if name in template},
        "restartPolicy": "OnFailure",
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": [*volumes, {"name": "scratch", "emptyDir": {}}],
    }
    if plan.account != plan.name:
        pod["serviceAccountName"] = plan.account
    return {
        **_unowned(plan, what, "batch/v1", "Job"),
        "spec": {
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": _TIME_TO_LIVE,
            "backoffLimit": 6,
            "template": {"metadata": {"labels": {"perdure.dev/purge": plan.name}}, "spec": pod},
        },
    }


def _needed(volume: str) -> bool:
    """What a provider is reached with. Everything else may be gone by now, and would keep the Job from starting."""
    return volume in ("config", "tmp") or volume.startswith(("credentials-", "ca-", "certificate-"))


def _unowned(plan: Plan, what: Clearing, api_version: str, kind: str) -> Object:
    found = base(plan, api_version, kind, purge_name(plan.name, what))
    del found["metadata"]["ownerReferences"]
    found["metadata"]["labels"] = labels(plan.name)
    found["metadata"]["annotations"] = {FOR_UID: plan.effective.worker.metadata.uid}
    return found
