"""`deletionPolicy: Delete`: a finalizer that removes a Worker's data before the Worker goes, bounded in time.

First the hosts stop (a host that still runs would write again), then a Job on the host image purges. After
`BOUND` seconds, or with the annotation `perdure.dev/force-delete: "true"`, the Worker goes and the data stays; an
event says so.
"""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass

from perdure.reconciler.api import KINDS, WORKER, ApiError, Cluster, Object
from perdure.reconciler.conditions import Reason, Verdict
from perdure.reconciler.events import post_event
from perdure.reconciler.inputs import Inputs
from perdure.reconciler.objects.common import Plan, selector
from perdure.reconciler.objects.purge import purge_config, purge_job, purge_name
from perdure.reconciler.status import write_deleting

log = logging.getLogger(__name__)
FINALIZER = "perdure.dev/data"
FORCE = "perdure.dev/force-delete"
BOUND = 300
_LOOK_AGAIN = 2.0


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
    step = await _step(cluster, document, inputs, plan)
    if not step.done:
        await write_deleting(cluster, document, Verdict("Ready", "False", Reason.DELETING, step.doing))
        return _LOOK_AGAIN
    if step.left is not None:
        log.warning("data was left behind", extra={"fields": {"worker": meta["name"], "reason": step.left}})
        await post_event(cluster, document, "Warning", "DataLeft", f"the Worker's data was not deleted: {step.left}")
    else:
        await post_event(cluster, document, "Normal", "DataDeleted", "the Worker's data was deleted")
    for kind in ("Job", "ConfigMap"):
        await cluster.delete(KINDS[kind], meta["namespace"], purge_name(meta["name"]))
    await ensure_finalizer(cluster, document, wanted=False)
    return None


async def _step(cluster: Cluster, document: Object, inputs: Inputs, plan: Plan | None) -> Step:
    meta = document["metadata"]
    name, namespace = meta["name"], meta["namespace"]
    if (meta.get("annotations") or {}).get(FORCE) == "true":
        return Step(done=True, left=f"the annotation {FORCE} is set")
    late = _age(meta["deletionTimestamp"]) > BOUND
    for kind in ("Deployment", "StatefulSet"):
        await cluster.delete(KINDS[kind], namespace, name)
    pods = await cluster.list(KINDS["Pod"], namespace, ",".join(f"{k}={v}" for k, v in selector(name).items()))
    if pods and not late:
        return Step(doing=f"the data is deleted after {len(pods)} hosts have stopped")
    if plan is None:
        why = inputs.spec_error or inputs.provider_error or "the provider is not known"
        return Step(done=True, left=why) if late else Step(doing=f"the data cannot be deleted yet: {why}")
    if all(provider.spec.redis is None for provider in plan.effective.providers):
        return Step(done=True)  # a volume goes with its StatefulSet, memory with its pod
    return await _purge(cluster, plan, late=late)


async def _purge(cluster: Cluster, plan: Plan, *, late: bool) -> Step:
    job = await cluster.get(KINDS["Job"], plan.namespace, purge_name(plan.name))
    if job is not None and job.get("status", {}).get("succeeded"):
        return Step(done=True)
    failure = _failure(job)
    if failure is not None or late:
        return Step(done=True, left=failure or f"it took longer than {BOUND} s")
    if job is None:
        await cluster.apply(purge_config(plan))
        try:
            await cluster.create(KINDS["Job"], plan.namespace, purge_job(plan, BOUND))
        except ApiError as error:
            if error.status != 409:
                raise
    return Step(doing=f"Job {purge_name(plan.name)} deletes the data")


def _failure(job: Object | None) -> str | None:
    for condition in (job or {}).get("status", {}).get("conditions", []):
        if condition["type"] == "Failed" and condition["status"] == "True":
            return f"the purge Job failed: {condition.get('reason', '')} {condition.get('message', '')}".strip()
    return None


def _age(since: str) -> float:
    """Seconds. The API server's clock and ours may differ a little; the bound is coarse."""
    then = datetime.datetime.fromisoformat(since)
    return (datetime.datetime.now(datetime.UTC) - then).total_seconds()
