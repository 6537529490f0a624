"""Writing a Worker's objects: server-side apply of what should be and is not, deletion of what should not."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from dataclasses import dataclass, field

from perdure.reconciler.api import FIELD_MANAGER, KINDS, Cluster, Object
from perdure.reconciler.objects.children import children
from perdure.reconciler.objects.common import Plan
from perdure.reconciler.objects.workload import with_existing_claim, workload_kind
from perdure.reconciler.workqueue import Key

WORKLOADS = ("Deployment", "StatefulSet")


class NotOurs(Exception):
    """An object of that name belongs to somebody else; the message says which."""


@dataclass(slots=True)
class Applied:
    """What was applied of each Worker, and the version that it then had. What is wanted the same and has that version
    still, nobody has changed: it is left alone, as most objects are most of the time."""

    _known: dict[Key, dict[tuple[str, str], tuple[str, str]]] = field(default_factory=dict)

    def holds(self, worker: Key, wanted: Object, there: Object | None) -> bool:
        version = (there or {}).get("metadata", {}).get("resourceVersion")
        return version is not None and self._known.get(worker, {}).get(_name(wanted)) == (_digest(wanted), version)

    def note(self, worker: Key, wanted: Object, done: Object) -> None:
        version = str(done["metadata"].get("resourceVersion", ""))
        self._known.setdefault(worker, {})[_name(wanted)] = (_digest(wanted), version)

    def forget(self, worker: Key) -> None:
        self._known.pop(worker, None)


def _name(obj: Object) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def _digest(obj: Object) -> str:
    return hashlib.sha256(json.dumps(obj, sort_keys=True).encode()).hexdigest()


async def apply_children(cluster: Cluster, plan: Plan, applied: Applied) -> Object:
    """Bring all objects to what the plan says; returns the workload as it now is.

    Raises `ApiError`, and `NotOurs` before anything was written over.
    """
    kind = workload_kind(plan)
    existing = await cluster.get(KINDS[kind], plan.namespace, plan.name)
    if existing is not None and await _autoscaled(cluster, existing):
        plan = dataclasses.replace(plan, set_replicas=False)
    wanted = children(plan)
    there = await asyncio.gather(*(_ours(cluster, plan, obj) for obj in wanted))
    worker = (plan.namespace, plan.name)

    async def bring_about(obj: Object, found: Object | None) -> Object | None:
        if applied.holds(worker, obj, found):
            return found
        done = await cluster.apply(obj)
        applied.note(worker, obj, done)
        return done

    # Pods are made from the workload: what they need comes before it.
    pairs = zip(wanted, there, strict=True)
    await asyncio.gather(*(bring_about(obj, found) for obj, found in pairs if obj["kind"] != kind))
    workload = with_existing_claim(next(obj for obj in wanted if obj["kind"] == kind), existing)
    done = await bring_about(workload, existing)
    await _prune(cluster, plan, kind)
    assert done is not None
    return done


async def _ours(cluster: Cluster, plan: Plan, obj: Object) -> Object | None:
    """Metadata of the object as it is there. A Service or ConfigMap that somebody made under the same name is not taken
    over."""
    kind, name = _name(obj)
    found = await cluster.get_metadata(KINDS[kind], plan.namespace, name)
    if found is not None and not owned(found, plan.effective.worker.metadata.uid):
        raise NotOurs(
            f"{kind} {name} exists and does not belong to this Worker: delete it, or give the Worker another name"
        )
    return found


def owned(obj: Object, uid: str) -> bool:
    """Whether the Worker with this uid owns the object."""
    return any(owner.get("uid") == uid for owner in obj["metadata"].get("ownerReferences", []))


async def _prune(cluster: Cluster, plan: Plan, kind: str) -> None:
    """After a change of the provider's kind or of the service account the former objects go."""
    unwanted = [(other, plan.name) for other in WORKLOADS if other != kind]
    if plan.account != plan.name:
        unwanted.append(("ServiceAccount", plan.name))
    for other, name in unwanted:
        found = await cluster.get_metadata(KINDS[other], plan.namespace, name)
        if found is not None and owned(found, plan.effective.worker.metadata.uid):
            await cluster.delete(KINDS[other], plan.namespace, name)


async def _autoscaled(cluster: Cluster, workload: Object) -> bool:
    """Whether a HorizontalPodAutoscaler (KEDA makes one, too) sets this workload's replicas.

    Only looked up when the managed fields show that somebody else has set them, so that a manual change is repaired
    and the usual reconcile costs no request.
    """
    if not any(_sets_replicas(entry) for entry in workload["metadata"].get("managedFields", [])):
        return False
    name, kind = workload["metadata"]["name"], workload["kind"]
    for found in await cluster.list(KINDS["HorizontalPodAutoscaler"], workload["metadata"]["namespace"]):
        target = found["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == (kind, name):
            return True
    return False


def _sets_replicas(entry: Object) -> bool:
    fields: Object = entry.get("fieldsV1", {}).get("f:spec", {})
    return entry.get("manager") != FIELD_MANAGER and "f:replicas" in fields
