"""One idempotent reconcile of a Worker: whatever triggered it, it reads everything, writes what differs, says so."""

from __future__ import annotations

import datetime
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from perdure.reconciler.api import KINDS, WORKER, ApiError, Cluster, Object
from perdure.reconciler.conditions import Facts
from perdure.reconciler.deletion import ensure_finalizers, finalizers_of, finish
from perdure.reconciler.hosts import changed_words, told_fields, unreachable
from perdure.reconciler.inputs import Inputs, gather
from perdure.reconciler.objects.common import Plan, selector
from perdure.reconciler.objects.pods import CHECKSUM, checksum
from perdure.reconciler.observation import Pods, observe, why_no_pods
from perdure.reconciler.ownership import Applied, NotOurs, apply_children
from perdure.reconciler.probing import ask_host, ask_hosts, why_not_ready
from perdure.reconciler.references import References
from perdure.reconciler.status import timestamp, worker_status, write_status
from perdure.reconciler.workqueue import Key

log = logging.getLogger(__name__)
_UNREADY = 5.0
_READY = 45.0
_REFUSED = (400, 403, 422)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator was started with. `host_image` runs in the Workers' pods, and in probes: these in
    `probe_namespace` where the provider names none, with `probe_pull_secrets`."""

    host_image: str
    pull_policy: str = "IfNotPresent"
    insecure_registries: tuple[str, ...] = ()
    probe_namespace: str = "default"
    probe_pull_secrets: tuple[str, ...] = ()


class Reconciler:
    """`worker(key)` is what the queue calls. `doubt` is told the name of a provider of which hosts say something else
    than before."""

    def __init__(
        self, cluster: Cluster, settings: Settings, references: References, doubt: Callable[[str], None]
    ) -> None:
        self._doubt = doubt
        self._cluster = cluster
        self._settings = settings
        self._references = references
        self._applied = Applied()

    async def worker(self, key: Key) -> float | None:
        """Seconds until the next look, or None when the Worker is gone. Raises `ApiError`: try again later."""
        namespace, name = key
        document = await self._cluster.get(WORKER, namespace, name)
        if document is None:
            self._references.forget(key)
            self._applied.forget(key)
            return None
        inputs = await gather(self._cluster, document, self._settings.insecure_registries)
        plan = self._plan(inputs)
        if document["metadata"].get("deletionTimestamp"):
            self._references.put(key, inputs.uses, ready=False)
            return await finish(self._cluster, document, inputs, plan)
        if inputs.worker is not None:
            held = document["metadata"].get("finalizers", [])
            await ensure_finalizers(self._cluster, document, finalizers_of(inputs.worker, held))
        facts = await self._bring_about(document, inputs, plan)
        ready = await self._report(document, inputs, plan, facts)
        self._references.put(key, inputs.uses, ready=ready)
        return (_READY if ready else _UNREADY) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret

    def _plan(self, inputs: Inputs) -> Plan | None:
        """What can be made from these inputs; without a component it is good for a purge only."""
        if inputs.effective is None:
            return None
        return Plan(
            effective=inputs.effective,
            digest=inputs.pin.digest if inputs.pin is not None else "",
            image_ref=inputs.pin.image_ref if inputs.pin is not None else None,
            host_image=self._settings.host_image,
            pull_policy=self._settings.pull_policy,
            versions=inputs.versions,
            insecure_registries=self._settings.insecure_registries,
        )

    async def _bring_about(self, document: Object, inputs: Inputs, plan: Plan | None) -> Facts:
        """Apply what can be applied. With broken inputs the objects stay as they are: what runs, runs on."""
        facts = Facts(
            spec_error=inputs.spec_error,
            component_error=inputs.component_error,
            digest=inputs.pin.digest if inputs.pin is not None else None,
            provider_error=inputs.provider_error,
            reference_error=inputs.reference_error,
            provider=inputs.effective.home.name if inputs.effective is not None else None,
            desired=document["spec"].get("replicas", 1),
        )
        if plan is None or not inputs.complete:
            return facts
        try:
            workload = await apply_children(self._cluster, plan, self._applied)
        except NotOurs as error:
            return replace(facts, spec_error=str(error))
        except ApiError as error:
            if not _is_refusal(error):
                raise
            return replace(facts, spec_error=f"the API server refused an object: {error.message}")
        desired = workload["spec"].get("replicas", facts.desired)
        return replace(facts, desired=desired, waiting=why_no_pods(workload))

    async def _report(self, document: Object, inputs: Inputs, plan: Plan | None, facts: Facts) -> bool:
        """Look at the pods and write the status; whether the Worker is ready."""
        meta = document["metadata"]
        labels = ",".join(f"{label}={value}" for label, value in selector(meta["name"]).items())
        found = await self._cluster.list(KINDS["Pod"], meta["namespace"], labels)
        current = checksum(plan) if plan is not None and inputs.complete else _newest_checksum(found)
        pods = observe(found, current, datetime.datetime.now(datetime.UTC))
        refusal = pods.refusal
        if refusal is None and pods.silent is not None:
            refusal = await why_not_ready(pods.silent)
        former = document.get("status") or {}
        told = await self._told(inputs, pods, former)
        if pods.ready or pods.silent is not None:
            for name in changed_words(former, told):
                self._doubt(name)
        facts = replace(
            facts,
            unreachable=unreachable(told.get("providers", [])),
            ready=pods.ready,
            updated=pods.current,
            total=pods.total,
            stopping=pods.stopping,
            refusal=refusal,
            waiting=pods.waiting or facts.waiting,
        )
        asked = None
        if pods.ready and pods.current == pods.total and _unknown(former, facts.digest):
            asked = await ask_host(f"http://{meta['name']}.{meta['namespace']}.svc")
        status = worker_status(document, facts, inputs.pin, asked, timestamp()) | told
        await write_status(self._cluster, WORKER, document, status)
        return any(found["type"] == "Ready" and found["status"] == "True" for found in status["conditions"])

    async def _told(self, inputs: Inputs, pods: Pods, former: Object) -> Object:
        """What hosts, or else probes, say of the providers."""
        if inputs.effective is None:
            return {}
        providers, home = inputs.effective.providers, inputs.effective.home.name
        reports = await ask_hosts(pods.addresses, [provider.name for provider in providers])
        return told_fields(providers, home, reports, dict(inputs.probes), former=former, ready=pods.ready)


def _is_refusal(error: ApiError) -> bool:
    """Whether the objects are at fault. For a value that does not parse, server-side apply answers 500."""
    return error.status in _REFUSED or (error.status == 500 and "unable to convert" in error.message)


def _unknown(former: Object, digest: str | None) -> bool:
    """Whether a host should be asked: once a component, and again when the provider changed."""
    component = former.get("component") or {}
    ready = any(found["type"] == "Ready" and found["status"] == "True" for found in former.get("conditions", []))
    return not ready or "durability" not in former or component.get("digest") != digest or "exports" not in component


def _newest_checksum(pods: list[Object]) -> str:
    newest = max(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), default=None)
    return str(newest["metadata"].get("annotations", {}).get(CHECKSUM, "")) if newest is not None else ""
