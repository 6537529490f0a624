"""Applying children: nothing foreign is taken over, former objects go, an autoscaler keeps its replicas."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest

from perdure.reconciler.api import Cluster
from perdure.reconciler.objects.children import children
from perdure.reconciler.objects.common import Plan
from perdure.reconciler.ownership import Applied, NotOurs, apply_children
from support.memory_cluster import MemoryCluster
from support.plans import SQLITE, UID, plan

MINE = [{"uid": UID}]


def obj(kind: str, name: str = "carts", owners: list[dict[str, str]] | None = None, **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "ownerReferences": owners or [], **rest.pop("metadata", {})}
    return {"kind": kind, "metadata": metadata, **rest}


async def applied(cluster: MemoryCluster, made: Plan, known: Applied | None = None) -> dict[str, Any]:
    return await apply_children(cast("Cluster", cluster), made, known or Applied())


async def test_the_workload_is_what_comes_back() -> None:
    cluster = MemoryCluster()
    assert (await applied(cluster, plan()))["kind"] == "Deployment"
    assert {f"apply {found['kind']}/{found['metadata']['name']}" for found in children(plan())} == set(cluster.calls)
    assert cluster.calls[-1] == "apply Deployment/carts", "what pods need is there before they are made"


@pytest.mark.parametrize("kind", ["Service", "ConfigMap", "Deployment", "PodDisruptionBudget"])
async def test_nothing_foreign_is_written_over(kind: str) -> None:
    name = "carts-config" if kind == "ConfigMap" else "carts"
    cluster = MemoryCluster(obj(kind, name, [{"uid": "other"}]))
    with pytest.raises(NotOurs, match=f"{kind} {name} exists and does not belong to this Worker"):
        await applied(cluster, plan())
    assert cluster.calls == [], "nothing at all was written"


async def test_former_objects_go() -> None:
    cluster = MemoryCluster(obj("StatefulSet", owners=MINE), obj("ServiceAccount", owners=MINE))
    await applied(cluster, plan(podTemplate={"spec": {"serviceAccountName": "mine"}}))
    assert cluster.calls[-2:] == ["delete StatefulSet/carts", "delete ServiceAccount/carts"]
    foreign = MemoryCluster(obj("StatefulSet"), obj("ServiceAccount"))
    await applied(foreign, plan(podTemplate={"spec": {"serviceAccountName": "mine"}}))
    assert not [call for call in foreign.calls if call.startswith("delete")]


@pytest.mark.parametrize(
    ("manager", "target", "kept"),
    [
        ("kube-controller-manager", ("Deployment", "carts"), False),
        ("kube-controller-manager", ("Deployment", "another"), True),
        ("kubectl", None, True),
        ("perdure", ("Deployment", "carts"), True),
    ],
)
async def test_replicas_are_omitted_only_under_an_autoscaler(
    manager: str, target: tuple[str, str] | None, kept: bool
) -> None:
    fields = [{"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
    cluster = MemoryCluster(obj("Deployment", owners=MINE, metadata={"managedFields": fields}))
    if target is not None:
        reference = dict(zip(("kind", "name"), target, strict=True))
        cluster.put(obj("HorizontalPodAutoscaler", "h", spec={"scaleTargetRef": reference}))
    assert ("replicas" in (await applied(cluster, plan()))["spec"]) is kept


async def test_the_claim_of_an_existing_statefulset_is_kept() -> None:
    made = plan(providers={"main": SQLITE})
    first = await applied(MemoryCluster(), made)
    cluster = MemoryCluster(
        {**first, "spec": {**first["spec"], "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}}
    )
    assert (await applied(cluster, made))["spec"]["volumeClaimTemplates"] == [{"metadata": {"name": "data"}}]


class Versioned(MemoryCluster):
    """Counts versions as the API server does: an apply that changes nothing makes none."""

    version = 0

    def put(self, obj: dict[str, Any]) -> None:
        former = self.find(obj["kind"], obj["metadata"]["name"])
        found = copy.deepcopy(obj)
        if former is not None:
            found["metadata"]["resourceVersion"] = former["metadata"]["resourceVersion"]
        if found != former:
            self.version += 1
            found["metadata"]["resourceVersion"] = str(self.version)
        super().put(found)

    async def apply(self, obj: dict[str, Any]) -> dict[str, Any]:
        await super().apply(obj)
        return copy.deepcopy(self.find(obj["kind"], obj["metadata"]["name"]) or {})


async def test_what_nobody_has_changed_is_left_alone() -> None:
    cluster, known, made = Versioned(), Applied(), plan()
    first = await applied(cluster, made, known)
    everything = set(cluster.calls)
    cluster.calls.clear()
    assert await applied(cluster, made, known) == first
    assert cluster.calls == []
    # The controls: an operator that starts anew, drift, a deleted child, another manifest, a Worker of the same name.
    await applied(cluster, made, Applied())
    assert set(cluster.calls) == everything
    for change in ("drift", "delete"):
        cluster.calls.clear()
        service = copy.deepcopy(cluster.objects["Service", "carts"])
        if change == "drift":
            service["spec"]["type"] = "NodePort"
            cluster.put(service)
        else:
            del cluster.objects["Service", "carts"]
        await applied(cluster, made, known)
        assert cluster.calls == ["apply Service/carts"], change
        assert cluster.objects["Service", "carts"]["spec"]["type"] == "ClusterIP"
    cluster.calls.clear()
    other = await applied(cluster, plan(replicas=2), known)
    assert (cluster.calls, other["spec"]["replicas"]) == (["apply Deployment/carts"], 2)
    known.forget(("shop", "carts"))
    cluster.calls.clear()
    await applied(cluster, plan(replicas=2), known)
    assert set(cluster.calls) == everything
