"""The status of KeyValueProviders: whether the spec holds, and how many Workers run on it.

Whether the backend answers is said where it is known: hosts that cannot reach it are not ready, and their Workers
say why. The operator holds no credentials of any provider.
"""

from __future__ import annotations

from perdure.errors import ManifestError
from perdure.manifests.base import API_VERSION
from perdure.manifests.load import parse_provider
from perdure.reconciler.api import PROVIDER, Cluster, Object
from perdure.reconciler.conditions import Reason, Verdict, merged
from perdure.reconciler.references import References
from perdure.reconciler.status import timestamp, write_status
from perdure.reconciler.workqueue import Key

_AGAIN = 60.0


class ProviderReconciler:
    """`provider(key)`; a key is `("", name)`."""

    def __init__(self, cluster: Cluster, references: References) -> None:
        self._cluster = cluster
        self._references = references

    async def provider(self, key: Key) -> float | None:
        """Seconds until the next look, or None when it is gone."""
        everything = await self._cluster.list(PROVIDER)
        document = next((found for found in everything if found["metadata"]["name"] == key[1]), None)
        if document is None:
            return None
        document |= {"apiVersion": API_VERSION, "kind": "KeyValueProvider"}
        others = [found["metadata"]["name"] for found in everything if found["spec"].get("default") is True]
        status = provider_status(document, others, self._references.users_of(key[1]), timestamp())
        await write_status(self._cluster, PROVIDER, document, status)
        return _AGAIN


def provider_status(document: Object, defaults: list[str], workers: int, now: str) -> Object:
    """`defaults`: names of all providers that claim to be the default one."""
    generation = document["metadata"].get("generation", 0)
    status: Object = {"observedGeneration": generation, "workers": workers}
    name = document["metadata"]["name"]
    others = sorted(set(defaults) - {name})
    try:
        spec = parse_provider(document).spec
        status["kind"] = spec.kind
        if spec.default and others:
            message = f"KeyValueProvider {', '.join(others)} is the default one, too: let one of them be it"
            verdict = Verdict("Ready", "False", Reason.INVALID_SPEC, message)
        else:
            words = {
                "redis": "Workers connect to it from their own pods",
                "postgres": "Workers connect to it from their own pods",
                "sqlite": "each Worker gets a volume of its own",
                "etcd": "Workers connect to it from their own pods, for buckets that name it",
                "nats": "Workers connect to it from their own pods, for buckets that name it",
                "memory": "nothing survives the pod: for tests only",
            }
            verdict = Verdict("Ready", "True", Reason.ACCEPTED, words[spec.kind])
    except ManifestError as error:
        verdict = Verdict("Ready", "False", Reason.INVALID_SPEC, error.detail)
    former = (document.get("status") or {}).get("conditions", [])
    return {**status, "conditions": merged([verdict], former, generation, now)}
