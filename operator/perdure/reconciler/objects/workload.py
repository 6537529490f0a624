"""The workload: a Deployment, or a StatefulSet with a volume claim where the home provider is SQLite."""

from __future__ import annotations

from perdure.reconciler.objects.common import Object, Plan, base, labels, selector
from perdure.reconciler.objects.pods import pod_template


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
        # Deleting the Worker deletes its volume only where the manifest says so.
        policy = plan.effective.worker.spec.deletion_policy
        spec["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": policy, "whenScaled": "Retain"}
    return {**found, "spec": spec}


def _claim(plan: Plan) -> Object:
    sqlite = plan.effective.home.spec.sqlite
    assert sqlite is not None
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": str(sqlite.size)}}}
    if sqlite.storage_class_name is not None:
        spec["storageClassName"] = sqlite.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "labels": labels(plan.name)},
        "spec": spec,
    }
