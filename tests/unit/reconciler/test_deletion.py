"""Deleting a Worker: the hosts first, then the data, and nothing that was not made for this very Worker."""

from __future__ import annotations

import datetime
from typing import Any, cast

import pytest

from perdure.manifests.load import parse_worker
from perdure.reconciler.api import ApiError, Cluster
from perdure.reconciler.conditions import Problem, Reason
from perdure.reconciler.deletion import BOUND, FINALIZER, FORCE, WATCHES, ensure_finalizers, finalizers_of, finish
from perdure.reconciler.inputs import Inputs
from perdure.reconciler.objects.common import LABEL, Plan, selector
from perdure.reconciler.objects.purge import FOR_UID
from perdure.reconciler.objects.workload import workload
from support.memory_cluster import MemoryCluster
from support.plans import REDIS, SQLITE, UID, plan, worker_document

SHARED: dict[str, Any] = {"keyValue": {"buckets": [{"name": "b", "scope": "Namespace", "watch": {"instance": "w"}}]}}
OTHER_UID = "99999999-0000-0000-0000-000000000000"
Object = dict[str, Any]


def going(*, seconds: float = 1, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    document = worker_document(**{"deletionPolicy": "Delete", **spec})
    document["metadata"] |= {
        "finalizers": ["example.com/other", FINALIZER],
        "deletionTimestamp": since.isoformat(),
        "resourceVersion": "7",
        "annotations": annotations or {},
    }
    return document


def obj(kind: str, name: str, **metadata: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop", **metadata}}


def mine(name: str = "carts") -> dict[str, Any]:
    return {"labels": selector(name), "ownerReferences": [{"uid": UID}]}


async def step(cluster: MemoryCluster, document: Object, made: Plan | None, **errors: Any) -> float | None:
    """One look of the operator at the Worker as the cluster has it."""
    found = cluster.find("Worker", "carts") or document
    cluster.put(found)
    inputs = Inputs(worker=parse_worker(found), **errors)
    return await finish(cast("Cluster", cluster), cast("Object", cluster.find("Worker", "carts")), inputs, made)


def said(cluster: MemoryCluster) -> str:
    found = cluster.find("Worker", "carts") or {}
    (ready,) = [c for c in found["status"]["conditions"] if c["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "Deleting")
    return str(ready["message"])


def held(cluster: MemoryCluster) -> bool:
    found = cluster.find("Worker", "carts") or {}
    assert "example.com/other" in found["metadata"]["finalizers"], "somebody else's finalizer stays"
    return bool({FINALIZER, WATCHES} & set(found["metadata"]["finalizers"]))


def events(cluster: MemoryCluster) -> set[str]:
    return {found["reason"] for (kind, _), found in cluster.objects.items() if kind == "Event"} - {"Deleting"}


async def test_hosts_stop_then_a_job_purges_then_the_worker_goes() -> None:
    made, document = plan(deletionPolicy="Delete"), going()
    cluster = MemoryCluster(workload(made), obj("Pod", "carts-1", **mine()))
    assert await step(cluster, document, made) is not None
    assert cluster.find("Deployment", "carts") is None
    assert said(cluster) == "the data cannot be deleted yet: 1 hosts have not stopped"
    assert cluster.find("Job", "carts-purge") is None, "a host that still runs could write again"

    cluster.objects.pop(("Pod", "carts-1"))
    assert await step(cluster, document, made) is not None
    assert "Job carts-purge deletes the data" in said(cluster)
    job = cluster.find("Job", "carts-purge")
    assert job is not None
    assert held(cluster)
    assert await step(cluster, document, made) is not None, "it is waited for"
    assert cluster.calls.count("create Job/carts-purge") == 1

    job["status"] = {"succeeded": 1}
    assert await step(cluster, document, made) is None
    assert not held(cluster)
    assert cluster.find("Job", "carts-purge") is None
    assert cluster.find("ConfigMap", "carts-purge") is None
    assert events(cluster) == {"DataDeleted"}
    assert await step(cluster, document, made) is None, "another look does nothing"


async def test_what_belongs_to_somebody_else_is_left_alone() -> None:
    foreign = [obj("Deployment", "carts", ownerReferences=[{"uid": OTHER_UID}]), obj("StatefulSet", "carts"),
               obj("PersistentVolumeClaim", "data-carts-0", labels={LABEL: "other"})]  # fmt: skip
    cluster = MemoryCluster(*foreign)
    assert await step(cluster, going(), plan(providers={"main": SQLITE})) is None
    assert not held(cluster)
    for found in foreign:
        assert cluster.find(found["kind"], found["metadata"]["name"]) == found


@pytest.mark.parametrize("kind", ["Job", "ConfigMap"])
async def test_a_foreign_object_of_the_jobs_name_is_in_the_way(kind: str) -> None:
    foreign = {**obj(kind, "carts-purge"), "status": {"succeeded": 1}, "data": {"mine": "yes"}}
    cluster, made = MemoryCluster(foreign), plan(deletionPolicy="Delete")
    assert await step(cluster, going(), made) is not None
    assert f"{kind} carts-purge is in the way" in said(cluster)
    late = MemoryCluster(foreign)
    assert await step(late, going(seconds=BOUND + 1), made) is None
    assert events(late) == {"DataLeft"}
    for found in (cluster, late):
        assert found.find(kind, "carts-purge") == foreign


async def test_the_job_of_a_former_worker_proves_nothing() -> None:
    former = {**obj("Job", "carts-purge", annotations={FOR_UID: OTHER_UID}), "status": {"succeeded": 1}}
    cluster, made = MemoryCluster(former), plan(deletionPolicy="Delete")
    assert await step(cluster, going(), made) is not None
    assert cluster.find("Job", "carts-purge") is None
    assert await step(cluster, going(), made) is not None
    assert (cluster.find("Job", "carts-purge") or {})["metadata"]["annotations"][FOR_UID] == UID
    assert held(cluster)


async def test_the_volume_of_an_sqlite_home_goes_with_the_data() -> None:
    claim = obj("PersistentVolumeClaim", "data-carts-0", labels={LABEL: "carts"})
    cluster, made = MemoryCluster(claim), plan(providers={"main": SQLITE}, deletionPolicy="Delete")
    assert await step(cluster, going(), made) is not None
    assert "PersistentVolumeClaim data-carts-0 is being deleted" in said(cluster)
    assert await step(cluster, going(), made) is None
    assert events(cluster) == {"DataDeleted"}
    assert "create Job/carts-purge" not in cluster.calls, "no server has anything"


async def test_the_volume_of_a_former_home_goes_too_and_after_the_job() -> None:
    claim = obj("PersistentVolumeClaim", "data-carts-0", labels={LABEL: "carts"})
    cluster, made = MemoryCluster(claim), plan(providers={"main": REDIS}, deletionPolicy="Delete")
    assert await step(cluster, going(), made) is not None
    assert cluster.find("PersistentVolumeClaim", "data-carts-0") == claim
    (cluster.find("Job", "carts-purge") or {})["status"] = {"succeeded": 1}
    assert await step(cluster, going(), made) is not None
    assert await step(cluster, going(), made) is None
    assert cluster.find("PersistentVolumeClaim", "data-carts-0") is None


async def test_an_unknown_provider_is_waited_for_and_then_given_up() -> None:
    problem = Problem(Reason.PROVIDER_NOT_FOUND, "KeyValueProvider main not found")
    cluster = MemoryCluster()
    assert await step(cluster, going(), None, provider_error=problem) is not None
    assert "cannot be deleted yet: KeyValueProvider main not found" in said(cluster)
    late = MemoryCluster()
    assert await step(late, going(seconds=BOUND + 1), None, provider_error=problem) is None
    assert not held(late)
    assert events(late) == {"DataLeft"}


async def test_force_leaves_everything() -> None:
    claim = obj("PersistentVolumeClaim", "data-carts-0", labels={LABEL: "carts"})
    cluster = MemoryCluster(claim, obj("Pod", "carts-1", **mine()))
    made = plan(providers={"main": SQLITE}, deletionPolicy="Delete")
    assert await step(cluster, going(annotations={FORCE: "true"}), made) is None
    assert not held(cluster)
    assert events(cluster) == {"DataLeft"}
    assert cluster.find("PersistentVolumeClaim", "data-carts-0") == claim


async def test_retain_set_meanwhile_keeps_the_data() -> None:
    cluster = MemoryCluster()
    assert await step(cluster, going(deletionPolicy="Retain"), plan()) is None
    assert not held(cluster)
    assert events(cluster) == set()


async def test_a_failed_job_is_told() -> None:
    failed = {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "late"}]}
    job = {**obj("Job", "carts-purge", annotations={FOR_UID: UID}), "status": failed}
    cluster = MemoryCluster(job)
    assert await step(cluster, going(), plan(deletionPolicy="Delete")) is None
    (event,) = [found for (kind, _), found in cluster.objects.items() if kind == "Event"]
    assert "the Job failed: DeadlineExceeded late" in event["message"]


async def test_a_namespace_that_ends_is_not_held_up() -> None:
    words = "jobs is forbidden: unable to create new content in namespace shop because it is being terminated"
    cluster = MemoryCluster()
    cluster.refusals["apply ConfigMap/carts-purge"] = ApiError(403, "Forbidden", words)
    assert await step(cluster, going(), plan(deletionPolicy="Delete")) is None
    assert not held(cluster)
    # The negative control: another refusal is raised, told and retried.
    cluster = MemoryCluster()
    cluster.refusals["apply ConfigMap/carts-purge"] = ApiError(403, "Forbidden", "exceeded quota")
    with pytest.raises(ApiError):
        await step(cluster, going(), plan(deletionPolicy="Delete"))
    assert held(cluster)


@pytest.mark.parametrize(
    ("spec", "held", "wanted"),
    [
        ({"deletionPolicy": "Delete"}, set(), {FINALIZER}),
        ({"deletionPolicy": "Retain"}, {FINALIZER}, set()),
        ({"deletionPolicy": "Retain", **SHARED}, set(), {WATCHES}),
        ({"deletionPolicy": "Delete", **SHARED}, set(), {FINALIZER, WATCHES}),
        # It was taken out of the manifest, and may be there still.
        ({"deletionPolicy": "Retain"}, {FINALIZER, WATCHES}, {WATCHES}),
        # Nobody else writes there.
        ({"keyValue": {"buckets": [{"name": "b", "watch": {"instance": "w"}}]}}, set(), set()),
        ({"keyValue": {"buckets": [{"name": "b", "scope": "Namespace"}]}}, set(), set()),
    ],
)
async def test_the_finalizers_follow_the_manifest(spec: Object, held: set[str], wanted: set[str]) -> None:
    document = worker_document(**spec)
    document["metadata"] |= {"resourceVersion": "7", "finalizers": ["example.com/other", *held]}
    assert finalizers_of(parse_worker(document), document["metadata"]["finalizers"]) == wanted
    cluster = MemoryCluster(document)
    await ensure_finalizers(cast("Cluster", cluster), document, wanted)
    found = cluster.find("Worker", "carts") or {}
    assert set(found["metadata"]["finalizers"]) == {"example.com/other", *wanted}
    assert cluster.calls == ([] if held == wanted else ["merge Worker/carts"]), "nothing is written without need"


def retained(**metadata: Any) -> Object:
    document = going(**{"deletionPolicy": "Retain", **SHARED}, **metadata)
    document["metadata"]["finalizers"] = ["example.com/other", WATCHES]
    return document


async def test_a_worker_that_retains_its_data_stops_watching() -> None:
    made = plan(deletionPolicy="Retain", **SHARED)
    claim = obj("PersistentVolumeClaim", "data-carts-0", labels={LABEL: "carts"})
    cluster = MemoryCluster(workload(made), obj("Pod", "carts-1", **mine()), claim)
    assert await step(cluster, retained(), made) is not None
    assert "cannot be ended yet: 1 hosts have not stopped" in said(cluster)
    assert cluster.find("Job", "carts-unwatch") is None, "a host that still runs would watch again"
    cluster.objects.pop(("Pod", "carts-1"))
    assert await step(cluster, retained(), made) is not None
    assert "Job carts-unwatch ends the watches" in said(cluster)
    job = cluster.find("Job", "carts-unwatch")
    assert job is not None and job["spec"]["template"]["spec"]["containers"][0]["args"][-1] == "--watches-only"
    job["status"] = {"succeeded": 1}
    assert await step(cluster, retained(), made) is None
    assert not held(cluster)
    assert events(cluster) == {"WatchesEnded"}
    assert {kind for kind, _ in cluster.objects} == {"Worker", "PersistentVolumeClaim", "Event"}
    assert "create Job/carts-purge" not in cluster.calls


async def test_watches_that_cannot_be_ended_hold_nobody_up_for_ever() -> None:
    made = plan(deletionPolicy="Retain", **SHARED)
    for document in (retained(seconds=BOUND + 1), retained(annotations={FORCE: "true"})):
        cluster = MemoryCluster()
        assert await step(cluster, document, made) is None
        assert not held(cluster)
        assert events(cluster) == {"WatchesLeft"}


async def test_retain_set_meanwhile_takes_the_job_away() -> None:
    """It may not have begun."""
    made = plan(deletionPolicy="Delete")
    cluster = MemoryCluster()
    assert await step(cluster, going(), made) is not None
    assert cluster.find("Job", "carts-purge") is not None
    document = going(deletionPolicy="Retain")
    cluster.put(document)
    assert await step(cluster, document, made) is None
    assert {kind for kind, _ in cluster.objects} == {"Worker", "Event"}
    # A Job of somebody else's stays.
    foreign = obj("Job", "carts-purge", annotations={FOR_UID: OTHER_UID})
    cluster = MemoryCluster(foreign)
    assert await step(cluster, document, made) is None
    assert cluster.find("Job", "carts-purge") == foreign
