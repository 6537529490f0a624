"""What happens at the stores before a Worker goes, held up by finalizers and bounded in time.

With `deletionPolicy: Delete` all its data is deleted. A Worker that retains its data and watches a bucket that its
namespace shares ends that watch: the bucket's feed would fill, and then refuse others' writes.

First the hosts stop (one that still runs would write, or watch, again), then a Job on the host image does it, then the
volume claim goes, where the data does. After `BOUND` seconds, or with `perdure.dev/force-delete: "true"`, the Worker
goes and what was to be cleared away stays; an event says so. Only objects made for this very Worker are touched.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Collection
from dataclasses import dataclass

from perdure.manifests.worker import Worker
from perdure.reconciler.api import KINDS, WORKER, ApiError, Cluster, Object
from perdure.reconciler.conditions import Reason, Verdict
from perdure.reconciler.events import post_event
from perdure.reconciler.inputs import Inputs
from perdure.reconciler.objects.common import LABEL, Plan, selector
from perdure.reconciler.objects.purge import FOR_UID, Clearing, purge_config, purge_job, purge_name
from perdure.reconciler.objects.workload import claim_name
from perdure.reconciler.ownership import WORKLOADS, owned
from perdure.reconciler.status import write_deleting

log = logging.getLogger(__name__)
FINALIZER = "perdure.dev/data"
WATCHES = "perdure.dev/watches"
FORCE = "perdure.dev/force-delete"
BOUND = 300
_LOOK_AGAIN = 2.0
_PURGE_KINDS = ("Job", "ConfigMap")
_CLAIM = KINDS["PersistentVolumeClaim"]


@dataclass(frozen=True, slots=True)
class _Words:
    """How an outcome is told."""

    doing: str
    undone: str
    done: str
    done_event: str
    left: str
    left_event: str


_WORDS = {
    Clearing.DATA: _Words(
        "deletes the data",
        "the data cannot be deleted yet",
        "the Worker's data was deleted",
        "DataDeleted",
        "the Worker's data was not deleted",
        "DataLeft",
    ),
    Clearing.WATCHES: _Words(
        "ends the watches of buckets that the namespace shares",
        "the watches of buckets that the namespace shares cannot be ended yet",
        "the Worker's watches of buckets that the namespace shares were ended; its data was kept",
        "WatchesEnded",
        "the Worker's watches of buckets that the namespace shares were not ended, and may fill",
        "WatchesLeft",
    ),
}


@dataclass(frozen=True, slots=True)
class Step:
    """`done`: the finalizers can go; `left`: why something stays, where it does; `doing`: what is waited for."""

    done: bool = False
    left: str | None = None
    doing: str = ""


def finalizers_of(worker: Worker, held: Collection[str]) -> set[str]:
    """Which of ours a Worker should have, that has those of `held`. A watch that was taken out of the manifest lives on
    for a while, so its finalizer stays."""
    shared = any(bucket.watch and bucket.scope == "Namespace" for bucket in worker.spec.key_value.buckets)
    wanted = {WATCHES} if shared or WATCHES in held else set()
    return wanted | ({FINALIZER} if worker.spec.deletion_policy == "Delete" else set())


async def ensure_finalizers(cluster: Cluster, document: Object, wanted: Collection[str]) -> None:
    """Raises `ApiError` 409 when somebody else wrote the Worker meanwhile."""
    meta = document["metadata"]
    held = meta.get("finalizers", [])
    others = [name for name in held if name not in (FINALIZER, WATCHES)]
    if set(held) != {*others, *wanted}:
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": [*others, *sorted(wanted)]}}
        await cluster.merge(WORKER, meta["namespace"], meta["name"], patch)


async def finish(cluster: Cluster, document: Object, inputs: Inputs, plan: Plan | None) -> float | None:
    """One step of the deletion of a Worker. Seconds until the next look, or None when nothing is left to do."""
    meta = document["metadata"]
    held = meta.get("finalizers", [])
    if FINALIZER not in held and WATCHES not in held:
        return None
    what = Clearing.DATA if document["spec"].get("deletionPolicy") == "Delete" else Clearing.WATCHES
    if what is Clearing.WATCHES and FINALIZER in held:
        await _clear_away(cluster, meta, Clearing.DATA)  # changed while it waited: the data stays after all
    if what is Clearing.WATCHES and WATCHES not in held:
        await ensure_finalizers(cluster, document, ())
        return None
    step, words = await _step(cluster, document, what, inputs, plan), _WORDS[what]
    if not step.done:
        await write_deleting(cluster, document, Verdict("Ready", "False", Reason.DELETING, step.doing))
        return _LOOK_AGAIN
    if step.left is not None:
        log.warning(words.left, extra={"fields": {"worker": meta["name"], "reason": step.left}})
        await post_event(cluster, document, "Warning", words.left_event, f"{words.left}: {step.left}")
    else:
        await post_event(cluster, document, "Normal", words.done_event, words.done)
    await _clear_away(cluster, meta, what)
    await ensure_finalizers(cluster, document, ())
    return None


async def _clear_away(cluster: Cluster, meta: Object, what: Clearing) -> None:
    name = purge_name(meta["name"], what)
    for kind in _PURGE_KINDS:
        found = await cluster.get_metadata(KINDS[kind], meta["namespace"], name)
        if found is not None and _made_for(found, meta["uid"]):
            await cluster.delete(KINDS[kind], meta["namespace"], name)


async def _step(cluster: Cluster, document: Object, what: Clearing, inputs: Inputs, plan: Plan | None) -> Step:
    meta, words = document["metadata"], _WORDS[what]
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
        return Step(doing=f"{words.undone}: {len(pods)} hosts have not stopped")
    if plan is None:
        problem = inputs.provider_error
        why = inputs.spec_error or (problem.message if problem else "the provider is not known")
        return Step(done=True, left=why) if late else Step(doing=f"{words.undone}: {why}")
    # Memory goes with its pod; everything else has a server or a volume.
    if any(provider.spec.server is not None for provider in plan.effective.providers):
        cleared = await _clear(cluster, plan, what, late=late)
        if not cleared.done or cleared.left is not None:
            return cleared
    return await _release_claim(cluster, namespace, name, late=late) if what is Clearing.DATA else Step(done=True)


async def _clear(cluster: Cluster, plan: Plan, what: Clearing, *, late: bool) -> Step:
    name, uid = purge_name(plan.name, what), plan.effective.worker.metadata.uid
    job = await cluster.get(KINDS["Job"], plan.namespace, name)
    mine = job is not None and _made_for(job, uid)
    if job is not None and mine and job.get("status", {}).get("succeeded"):
        return Step(done=True)
    failure = _failure(job) if mine else None
    if failure is not None or late:
        return Step(done=True, left=failure or f"it took longer than {BOUND} s")
    if mine:
        return Step(doing=f"Job {name} {_WORDS[what].doing}")
    for kind in _PURGE_KINDS:
        found = await cluster.get_metadata(KINDS[kind], plan.namespace, name)
        if found is not None and FOR_UID not in found["metadata"].get("annotations", {}):
            return Step(doing=f"{kind} {name} is in the way of the Job that {_WORDS[what].doing}: delete it")
    if job is not None:  # of a former Worker of the same name
        await cluster.delete(KINDS["Job"], plan.namespace, name)
        return Step(doing=f"a former Job {name} is cleared away")
    return await _start(cluster, plan, what)


async def _start(cluster: Cluster, plan: Plan, what: Clearing) -> Step:
    try:
        await cluster.apply(purge_config(plan, what))
        await cluster.create(KINDS["Job"], plan.namespace, purge_job(plan, what, BOUND))
    except ApiError as error:
        if error.namespace_ends:
            return Step(done=True, left="its namespace is being deleted, and nothing can run there any more")
        if error.status != 409:
            raise
    return Step(doing=f"Job {purge_name(plan.name, what)} {_WORDS[what].doing}")


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
            return f"the Job failed: {condition.get('reason', '')} {condition.get('message', '')}".strip()
    return None


def _age(since: str) -> float:
    """Seconds. The API server's clock and ours may differ a little; the bound is coarse."""
    then = datetime.datetime.fromisoformat(since)
    return (datetime.datetime.now(datetime.UTC) - then).total_seconds()
