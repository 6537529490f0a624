"""The status of KeyValueProviders: whether the spec holds, what a probe found, and how many Workers run on it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable

from perdure.errors import ManifestError
from perdure.manifests.base import API_VERSION
from perdure.manifests.load import parse_provider
from perdure.manifests.provider import KeyValueProvider
from perdure.reconciler.api import PROVIDER, Cluster, Object
from perdure.reconciler.conditions import Reason, Verdict, merged
from perdure.reconciler.probes import Look, Prober
from perdure.reconciler.reachability import REACHABLE, durable
from perdure.reconciler.references import References
from perdure.reconciler.status import timestamp, write_status
from perdure.reconciler.workqueue import Key

_AGAIN = 60.0


class ProviderReconciler:
    """`provider(key)`; a key is `("", name)`. `changed` is told the name of one whose `Reachable` is another now."""

    def __init__(
        self, cluster: Cluster, references: References, prober: Prober, changed: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._references = references
        self._prober = prober
        self._changed = changed
        self._doubted: set[str] = set()
        self._reachable: dict[str, str] = {}

    def reachability(self) -> Counter[str]:
        """How many providers can be reached (`True`), cannot (`False`), or nobody knows (`Unknown`)."""
        return Counter(self._reachable.values())

    def doubt(self, name: str) -> None:
        """Hosts have noticed something: what the last probe found may not hold any more."""
        self._doubted.add(name)

    async def provider(self, key: Key) -> float | None:
        """Seconds until the next look, or None when it is gone."""
        everything = await self._cluster.list(PROVIDER)
        document = next((found for found in everything if found["metadata"]["name"] == key[1]), None)
        if document is None:
            self._doubted.discard(key[1])
            self._reachable.pop(key[1], None)
            return None
        document |= {"apiVersion": API_VERSION, "kind": "KeyValueProvider"}
        others = [found["metadata"]["name"] for found in everything if found["spec"].get("default") is True]
        provider, accepted = accept(document, others)
        former: Object = document.get("status") or {}
        look = None
        if provider is not None and not document["metadata"].get("deletionTimestamp"):
            now = datetime.datetime.now(datetime.UTC)
            look = await self._prober.look(provider, former, now, doubted=key[1] in self._doubted)
        users = len(self._references.on_provider(key[1]))
        status = provider_status(document, provider, accepted, look, users, timestamp())
        await write_status(self._cluster, PROVIDER, document, status)
        if former.get("lastProbeTime") != status.get("lastProbeTime"):
            self._doubted.discard(key[1])
        self._reachable[key[1]] = _reachable(status) or "Unknown"
        if _reachable(former) != _reachable(status):
            self._changed(key[1])
        return _AGAIN if look is None else look.again


def accept(document: Object, defaults: list[str]) -> tuple[KeyValueProvider | None, Verdict]:
    """The provider, or None where the specification is wrong, and `Ready`. `defaults`: names of all providers that
    claim to be the default one."""
    others = sorted(set(defaults) - {document["metadata"]["name"]})
    try:
        provider = parse_provider(document)
    except ManifestError as error:
        return None, Verdict("Ready", "False", Reason.INVALID_SPEC, error.detail)
    if provider.spec.default and others:
        message = f"KeyValueProvider {', '.join(others)} is the default one, too: let one of them be it"
        return provider, Verdict("Ready", "False", Reason.INVALID_SPEC, message)
    words = {
        "redis": "Workers connect to it from their own pods",
        "postgres": "Workers connect to it from their own pods",
        "sqlite": "each Worker gets a volume of its own",
        "etcd": "Workers connect to it from their own pods, for buckets that name it",
        "nats": "Workers connect to it from their own pods, for buckets that name it",
        "memory": "nothing survives the pod: for tests only",
    }
    return provider, Verdict("Ready", "True", Reason.ACCEPTED, words[provider.spec.kind])


def provider_status(
    document: Object, provider: KeyValueProvider | None, accepted: Verdict, look: Look | None, workers: int, now: str
) -> Object:
    """The whole status. `look` None: nothing could be looked at; what is known of the server goes."""
    generation = document["metadata"].get("generation", 0)
    status: Object = {"observedGeneration": generation, "workers": workers}
    verdicts = [accepted]
    if provider is not None:
        status["kind"] = provider.spec.kind
    if provider is not None and look is not None:
        status |= look.fields
        promise = durable(provider, look.fields)
        verdicts += [look.verdict, *([promise] if promise is not None else [])]
    former = (document.get("status") or {}).get("conditions", [])
    return {**status, "conditions": merged(verdicts, former, generation, now)}


def _reachable(status: Object) -> str | None:
    found = (c["status"] for c in status.get("conditions", []) if c["type"] == REACHABLE)
    return next(found, None)
