"""Probes of KeyValueProviders: which Job there should be now, and what the one that there is has found.

The operator holds no credentials of stores. A Job on the host image looks, in a namespace that has the provider's
Secrets, and its last words say what it saw. One at a time for each provider.
"""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass, field

from perdure.manifests.provider import KeyValueProvider
from perdure.reconciler.api import KINDS, ApiError, Cluster, Object
from perdure.reconciler.conditions import Reason, Verdict
from perdure.reconciler.objects.probe import CHECKSUM, CONTAINER, LABEL, ProbePlan, label_of, probe_job
from perdure.reconciler.objects.secrets import secrets_of
from perdure.reconciler.observation import why_waiting
from perdure.reconciler.ownership import owned
from perdure.reconciler.reachability import REACHABLE, Known, outcome_of

_JOB = KINDS["Job"]
_WORKING = 2.0
_CLEARED = 1.0
_MISSING = 15.0
_UNREADY = 15.0
_READY = 60.0
_REFUSED = (403, 404, 409, 422)


@dataclass(frozen=True, slots=True)
class Look:
    """What to say now. `fields`: of the status. `again`: seconds until the next look."""

    verdict: Verdict
    fields: Object = field(default_factory=dict)
    again: float = _READY


class Prober:
    """`image`, `pull_policy`, `pull_secrets`: of Jobs. `namespace`: where they run when the provider names none."""

    def __init__(
        self, cluster: Cluster, *, image: str, pull_policy: str, namespace: str, pull_secrets: tuple[str, ...] = ()
    ) -> None:
        self._cluster = cluster
        self._image = image
        self._pull_policy = pull_policy
        self._namespace = namespace
        self._pull_secrets = pull_secrets

    async def look(
        self, provider: KeyValueProvider, status: Object, now: datetime.datetime, *, doubted: bool = False
    ) -> Look:
        """One step: take a Job's outcome, begin one, or leave all as it is. `doubted`: somebody else has noticed a
        change. Raises `ApiError`: try again later."""
        if provider.spec.server is None:
            return _embedded(provider)
        known = Known.of(status)
        if not provider.spec.probe.enabled:
            return Look(Verdict(REACHABLE, "Unknown", Reason.NOT_PROBED, "spec.probe.enabled is false"))
        namespace = provider.spec.probe.namespace or self._namespace
        versions, missing = await self._versions(provider, namespace)
        if missing is not None:
            words = f"{missing}: make it there for the probe, or name a namespace that has it in spec.probe.namespace"
            return Look(Verdict(REACHABLE, "Unknown", Reason.SECRET_NOT_FOUND, words), known.fields(), _MISSING)
        own = namespace == self._namespace
        plan = ProbePlan(
            provider, namespace, self._image, self._pull_policy, self._pull_secrets if own else (), versions
        )
        return await self._step(plan, known, now, doubted=doubted)

    async def _step(self, plan: ProbePlan, known: Known, now: datetime.datetime, *, doubted: bool) -> Look:
        job = await self._cluster.get(_JOB, plan.namespace, plan.name)
        if job is not None and LABEL not in job["metadata"].get("labels", {}):
            words = f"Job {plan.name} in namespace {plan.namespace} is in the way of the probe: delete it"
            return Look(Verdict(REACHABLE, "Unknown", Reason.PROBE_FAILED, words), known.fields(), _READY)
        if job is not None and not _present(job, plan):
            return await self._clear(job, plan, known)
        if job is not None:
            pods = await self._cluster.list(KINDS["Pod"], plan.namespace, f"{LABEL}={label_of(plan.provider.name)}")
            outcome = outcome_of(job, pods)
            uid = job["metadata"]["uid"]
            if outcome is None:
                waiting = next((reason for pod in pods if (reason := why_waiting(pod, CONTAINER)) is not None), None)
                return _as_known(known, plan, waiting or f"Job {plan.name} in namespace {plan.namespace} looks at it")
            if uid != known.job:
                checksum = job["metadata"]["annotations"][CHECKSUM]
                known = known.after(outcome, checksum=checksum, job=uid, now=now, namespace=plan.namespace)
        wait = known.wait(plan.checksum, plan.provider.spec.probe.interval / 1000, now, doubted=doubted)
        if wait > 0:
            most = _READY if known.failures == 0 else _UNREADY
            return _as_known(known, plan, "it is about to be looked at", again=min(wait, most))
        return await (self._begin(plan, known) if job is None else self._clear(job, plan, known))

    async def _clear(self, job: Object, plan: ProbePlan, known: Known) -> Look:
        """A Job that has done its work, or looks at what is no more."""
        await self._cluster.delete(_JOB, plan.namespace, job["metadata"]["name"])
        return _as_known(known, plan, "a former probe is cleared away", again=_CLEARED)

    async def _begin(self, plan: ProbePlan, known: Known) -> Look:
        try:
            await self._cluster.create(_JOB, plan.namespace, probe_job(plan))
        except ApiError as error:
            if error.status == 409:  # the former one is still going
                return _as_known(known, plan, "a former probe is cleared away", again=_CLEARED)
            if error.status not in _REFUSED:
                raise
            words = f"no Job can be made in namespace {plan.namespace}: {error.message}"
            return Look(Verdict(REACHABLE, "Unknown", Reason.PROBE_FAILED, words), known.fields(), _READY)
        return _as_known(known, plan, f"Job {plan.name} in namespace {plan.namespace} looks at it")

    async def _versions(
        self, provider: KeyValueProvider, namespace: str
    ) -> tuple[tuple[tuple[str, str], ...], str | None]:
        """Of its Secrets, by name; and the first that is missing, in words."""
        uses = {use.name: use.why for use in secrets_of(provider)}
        found = await asyncio.gather(*(self._cluster.get_metadata(KINDS["Secret"], namespace, name) for name in uses))
        versions = []
        for (name, why), secret in zip(uses.items(), found, strict=True):
            if secret is None:
                return (), f"Secret {name} not found in namespace {namespace} ({why})"
            versions.append((name, str(secret["metadata"]["resourceVersion"])))
        return tuple(sorted(versions)), None


def _present(job: Object, plan: ProbePlan) -> bool:
    """Whether a Job looks at this very provider where it is now, by such a pod. One that has read former Secrets may
    finish: if they changed all the time, there would never be an outcome."""
    place, _, *shape = str(job["metadata"].get("annotations", {}).get(CHECKSUM, "")).split(".") + [""]
    return owned(job, plan.provider.metadata.uid) and (place, "".join(shape)) == (plan.place, plan.shape)


def _as_known(known: Known, plan: ProbePlan, doing: str, *, again: float = _WORKING) -> Look:
    """What was found last stands until there is something newer, unless it was found elsewhere."""
    if known.verdict is None or known.elsewhere(plan.place):
        fields = known.fields()
        for name in ("server", "durability", "guarantee", "warnings"):
            fields.pop(name, None)
        return Look(Verdict(REACHABLE, "Unknown", Reason.PROBING, doing), fields, again)
    return Look(known.verdict, known.fields(), again)


def _embedded(provider: KeyValueProvider) -> Look:
    """Nothing to look at: it is where its Worker is."""
    sqlite = provider.spec.sqlite is not None
    where = "a file on a volume of each Worker's own" if sqlite else "the memory of each Worker's host"
    found: Object = {"durability": "D2" if sqlite else "D0", "guarantee": "exactly-once"}
    return Look(Verdict(REACHABLE, "True", Reason.NO_SERVER, f"nothing to reach: it is {where}"), found)
