"""The Services, and the PodDisruptionBudget."""

from __future__ import annotations

from perdure.reconciler.objects.common import Object, Plan, base, selector


def service(plan: Plan) -> Object:
    """Where callers find the Worker: port 80."""
    spec = plan.effective.worker.spec.service
    found = base(plan, "v1", "Service", plan.name)
    if spec.annotations:
        found["metadata"]["annotations"] = dict(spec.annotations)
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    return {**found, "spec": {"type": spec.type, "selector": selector(plan.name), "ports": ports}}


def headless_service(plan: Plan) -> Object:
    """Every host by its own address, ready or not; metrics are scraped here."""
    ports = [
        {"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"},
        {"name": "metrics", "port": 9090, "targetPort": "metrics", "protocol": "TCP"},
    ]
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(plan.name),
        "ports": ports,
    }
    return {**base(plan, "v1", "Service", f"{plan.name}-hosts"), "spec": spec}


def disruption_budget(plan: Plan) -> Object:
    """At most one host at a time is taken away on purpose. One that does not answer may always go: while a store is
    away none answers, and no node could be drained."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector(plan.name)},
    }
    return {**base(plan, "policy/v1", "PodDisruptionBudget", plan.name), "spec": spec}
