"""`deletionPolicy: Delete`: a finalizer that removes a Worker's data before the Worker goes, bounded in time.

First the hosts stop (a host that still runs would write again), then a Job on the host image purges, then the volume
claim goes. After `BOUND` seconds, or with the annotation `perdure.dev/force-delete: "true"`, the Worker goes and the
data stays; an event says so. Only objects that were made for this very Worker are touched.
"""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass

from perdure.reconciler.api import KINDS, WORKER, ApiError, Cluster, Object
from perdure.reconciler.conditions import Reason, Verdict
from perdure.reconciler.events import post_event
from perdure.reconciler.inputs import Inputs
from perdure.reconciler.objects.common import LABEL, Plan, selector
from perdure.reconciler.objects.purge import FOR_UID, purge_config, purge_job, purge_name
from perdure.reconciler.objects.workload import claim_name
from perdure.reconciler.ownership import WORKLOADS, owned
from perdure.reconciler.status import write_deleting

log = logging.getLogger(__name__)
FINALIZER = "perdure.dev/data"
FORCE = "perdure.dev/force-delete"
BOUND = 300
_LOOK_AGAIN = 2.0
_PURGE_KINDS = ("Job", "ConfigMap")
_CLAIM = KINDS["PersistentVolumeClaim"]


@dataclass(frozen=True, slots=True)
class Step:
    """`done`: the finalizer can go; `left`: why the data stays, where it does; `doing`: what is waited for."""

    done: bool = False
    left: str | None = None
    doing: str = ""


async def ensure_finalizer(cluster: Cluster, document: Object, *, wanted: bool) -> None:
    """Raises `ApiError` 409 when somebody else wrote the Worker meanwhile."""
    meta = document["metadata"]
    held = FINALIZER in meta.get("finalizers", [])
    if held != wanted:
        others = [name for name in meta.get("finalizers", []) if name != FINALIZER]
        patch = {
            "metadata": {
                "resourceVersion": meta["resourceVersion"],
                "finalizers": [*others, FINALIZER] if wanted else others,
            }
        }
        await cluster.merge(WORKER, meta["namespace"], meta["name"], patch)


async def finish(cluster: Cluster, document: Object, inputs: Inputs, plan: Plan | None) -> float | None:
    """One step of the deletion of a Worker. Seconds until the next look, or None when nothing is left to do."""
    meta = document["metadata"]
    if FINALIZER not in meta.get("finalizers", []):
        return None
    if inputs.worker is not None and inputs.worker.spec.deletion_policy == "Retain":
        await ensure_finalizer(cluster, document, wanted=False)  # changed while it waited: the data stays after all
        return None
    step = await _step(cluster, document, inputs, plan)
    if not step.done:
        await write_deleting(cluster, document, Verdict("Ready", "False", Reason.DELETING, step.doing))
        return _LOOK_AGAIN
    if step.left is not None:
        log.warning("data was left behind", extra={"fields": {"worker": meta["name"], "reason": step.left}})
        await post_event(cluster, document, "Warning", "DataLeft", f"the Worker's data was not deleted: {step.left}")
    else:
        await post_event(cluster, document, "Normal", "DataDeleted", "the Worker's data was deleted")
    for kind in _PURGE_KINDS:
        found = await cluster.get_metadata(KINDS[kind], meta["namespace"], purge_name(meta["name"]))
        if found is not None and _made_for(found, meta["uid"]):
            await cluster.delete(KINDS[kind], meta["namespace"], purge_name(meta["name"]))
    await ensure_finalizer(cluster, document, wanted=False)
    return None


async def _step(cluster: Cluster, document: Object, inputs: Inputs, plan: Plan | None) -> Step:
    meta = document["metadata"]
    name, namespace = meta["name"], meta["namespace"]
    if (meta.get("annotations") or {}).get(FORCE) == "true":
        return Step(done=True, left=f"the annotation {FORCE} is set")
    late = _age(meta["deletionTimestamp"]) > BOUND
    for kind in WORKLOADS:
        found = await cluster.get_metadata(KINDS[kind], namespace, name)
        if found is not None and owned(found, meta["uid"]):
            await cluster.delete(KINDS[kind], namespace, name)
    pods = await cluster.list(KINDS["Pod"], namespace, ",".join(f"{k}={v}" for k, v in selector(name).items()))
    if pods and not late:
        return Step(doing=f"the data is deleted after {len(pods)} hosts have stopped")
    if plan is None:
        problem = inputs.provider_error
        why = inputs.spec_error or (problem.message if problem else "the provider is not known")
        return Step(done=True, left=why) if late else Step(doing=f"the data cannot be deleted yet: {why}")
    # Memory goes with its pod; everything else has a server or a volume.
    if any(provider.spec.server is not None for provider in plan.effective.providers):
        purged = await _purge(cluster, plan, late=late)
        if not purged.done or purged.left is not None:
            return purged
    return await _release_claim(cluster, namespace, name, late=late)


async def _purge(cluster: Cluster, plan: Plan, *, late: bool) -> Step:
    name, uid = purge_name(plan.name), plan.effective.worker.metadata.uid
    job = await cluster.get(KINDS["Job"], plan.namespace, name)
    mine = job is not None and _made_for(job, uid)
    if job is not None and mine and job.get("status", {}).get("succeeded"):
        return Step(done=True)
    failure = _failure(job) if mine else None
    if failure is not None or late:
        return Step(done=True, left=failure or f"it took longer than {BOUND} s")
    if mine:
        return Step(doing=f"Job {name} deletes the data")
    for kind in _PURGE_KINDS:
        found = await cluster.get_metadata(KINDS[kind], plan.namespace, name)
        if found is not None and FOR_UID not in found["metadata"].get("annotations", {}):
            return Step(doing=f"{kind} {name} is in the way of the Job that deletes the data: delete it")
    if job is not None:  # of a former Worker of the same name
        await cluster.delete(KINDS["Job"], plan.namespace, name)
        return Step(doing=f"a former Job {name} is cleared away")
    return await _start_purge(cluster, plan)


async def _start_purge(cluster: Cluster, plan: Plan) -> Step:
    try:
        await cluster.apply(purge_config(plan))
        await cluster.create(KINDS["Job"], plan.namespace, purge_job(plan, BOUND))
    except ApiError as error:
        if error.namespace_ends:
            return Step(done=True, left="its namespace is being deleted, and nothing can run there any more")
        if error.status != 409:
            raise
    return Step(doing=f"Job {purge_name(plan.name)} deletes the data")


async def _release_claim(cluster: Cluster, namespace: str, name: str, *, late: bool) -> Step:
    """Delete the volume claim of an SQLite home, a former one included."""
    claim = claim_name(name)
    found = await cluster.get_metadata(_CLAIM, namespace, claim)
    if found is None or found["metadata"].get("labels", {}).get(LABEL) != name:
        return Step(done=True)
    if late:
        return Step(done=True, left=f"PersistentVolumeClaim {claim} is still there after {BOUND} s")
    await cluster.delete(_CLAIM, namespace, claim)
    return Step(doing=f"PersistentVolumeClaim {claim} is being deleted")


def _made_for(obj: Object, uid: str) -> bool:
    return bool(obj["metadata"].get("annotations", {}).get(FOR_UID) == uid)


def _failure(job: Object | None) -> str | None:
    for condition in (job or {}).get("status", {}).get("conditions", []):
        if condition["type"] == "Failed" and condition["status"] == "True":
            return f"the purge Job failed: {condition.get('reason', '')} {condition.get('message', '')}".strip()
    return None


def _age(since: str) -> float:
    """Seconds. The API server's clock and ours may differ a little; the bound is coarse."""
    then = datetime.datetime.fromisoformat(since)
    return (datetime.datetime.now(datetime.UTC) - then).total_seconds()
