"""A Worker's status: built from facts, written only when it changes, one event a transition."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from perdure.reconciler.api import WORKER, Cluster, Kind, Object
from perdure.reconciler.conditions import Facts, Verdict, merged, transitions, verdicts
from perdure.reconciler.events import post_event
from perdure.reconciler.objects.common import selector
from perdure.reconciler.resolution import Pin

_OWNED = ("component", "provider", "durability", "url")


@dataclass(frozen=True, slots=True)
class Details:
    """What `GET /v1/component` of a running host adds: its durability level and the component's functions."""

    durability: str | None = None
    exports: tuple[str, ...] = ()


def worker_status(document: Object, facts: Facts, pin: Pin | None, details: Details | None, now: str) -> Object:
    """The whole status; fields that are not known keep their former value."""
    former: Object = document.get("status") or {}
    name, namespace = document["metadata"]["name"], document["metadata"]["namespace"]
    generation = document["metadata"].get("generation", 0)
    status: Object = {
        **{field: former[field] for field in _OWNED if field in former},
        "observedGeneration": generation,
        "replicas": facts.total,
        "readyReplicas": facts.ready,
        "selector": ",".join(f"{label}={value}" for label, value in selector(name).items()),
        "url": f"http://{name}.{namespace}.svc",
        "conditions": merged(verdicts(facts), former.get("conditions", []), generation, now),
    }
    if facts.provider is not None:
        status["provider"] = facts.provider
    if pin is not None:
        same = (former.get("component") or {}).get("digest") == pin.digest
        kept = former.get("component", {}).get("exports") if same else None
        component: Object = {"digest": pin.digest, "source": pin.source}
        if pin.size:
            component["size"] = pin.size
        if kept:
            component["exports"] = kept
        status["component"] = component
    if details is not None:
        if details.durability is not None:
            status["durability"] = details.durability
        if details.exports and "component" in status:
            status["component"]["exports"] = list(details.exports)
    return status


async def write_status(cluster: Cluster, kind: Kind, document: Object, status: Object) -> None:
    """Patch what differs, then tell each transition. Fields that went are removed."""
    former: Object = document.get("status") or {}
    if former == status:
        return
    meta, patch = document["metadata"], {"status": merge_patch(former, status)}
    await cluster.merge(kind, meta.get("namespace"), meta["name"], patch, subresource="/status")
    for condition in transitions(former.get("conditions", []), status["conditions"]):
        bad = condition["status"] == "False" and condition["type"] != "Progressing"
        text = f"{condition['type']} is {condition['status']}: {condition['message']}"
        await post_event(cluster, document, "Warning" if bad else "Normal", condition["reason"], text)


def merge_patch(former: Object, wanted: Object) -> Object:
    """The JSON merge patch (RFC 7396) from one to the other: what is wanted no more is null."""
    patch: Object = dict.fromkeys(former)
    for name, value in wanted.items():
        before = former.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            patch[name] = merge_patch(before, value)
        else:
            patch[name] = value
    return patch


def timestamp() -> str:
    """Now, as conditions write it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def write_deleting(cluster: Cluster, document: Object, verdict: Verdict) -> None:
    """Say while a finalizer works what it works on."""
    former: Object = document.get("status") or {}
    others = [found for found in former.get("conditions", []) if found["type"] != verdict.type]
    generation = document["metadata"].get("generation", 0)
    mine = merged([verdict], former.get("conditions", []), generation, timestamp())
    status = {**former, "conditions": [*others, *mine]}
    await write_status(cluster, WORKER, document, status)
