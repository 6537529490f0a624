"""The workload: a Deployment, or a StatefulSet with a volume claim where the home provider is SQLite.

The claim outlives the StatefulSet: only the Worker's own deletion with `deletionPolicy: Delete` removes it, by the
operator's hand. A StatefulSet that removed it would also do so when the Worker merely moves to another provider.
"""

from __future__ import annotations

from perdure.reconciler.objects.common import Object, Plan, base, labels, selector
from perdure.reconciler.objects.pods import pod_template

_VOLUME = "data"


def workload_kind(plan: Plan) -> str:
    return "StatefulSet" if plan.effective.home.spec.sqlite is not None else "Deployment"


def workload(plan: Plan) -> Object:
    """`replicas` is left out where an autoscaler owns it."""
    kind = workload_kind(plan)
    found = base(plan, "apps/v1", kind, plan.name)
    spec: Object = {"selector": {"matchLabels": selector(plan.name)}, "template": pod_template(plan)}
    if plan.set_replicas:
        spec["replicas"] = plan.effective.worker.spec.replicas
    if kind == "Deployment":
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        spec["progressDeadlineSeconds"] = 300
    else:
        spec |= {"serviceName": f"{plan.name}-hosts", "volumeClaimTemplates": [_claim(plan)]}
        spec["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": "Retain", "whenScaled": "Retain"}
        # In order, a pod that never becomes ready would also keep the one that mends it from being made.
        spec["podManagementPolicy"] = "Parallel"
    return {**found, "spec": spec}


def claim_name(name: str) -> str:
    """The claim of the one host that an SQLite file can have, as the StatefulSet names it."""
    return f"{_VOLUME}-{name}-0"


def with_existing_claim(wanted: Object, existing: Object | None) -> Object:
    """A volume is made once: another size or class of the provider concerns Workers to come, and a StatefulSet's
    claim cannot be changed."""
    templates = (existing or {}).get("spec", {}).get("volumeClaimTemplates")
    if wanted["kind"] != "StatefulSet" or not templates:
        return wanted
    return {**wanted, "spec": {**wanted["spec"], "volumeClaimTemplates": templates}}


def _claim(plan: Plan) -> Object:
    sqlite = plan.effective.home.spec.sqlite
    assert sqlite is not None
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": str(sqlite.size)}}}
    if sqlite.storage_class_name is not None:
        spec["storageClassName"] = sqlite.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": _VOLUME, "labels": labels(plan.name)},
        "spec": spec,
    }
