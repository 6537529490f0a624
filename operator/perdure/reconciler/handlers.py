"""kopf's part: watches. Every event becomes a trigger of the queue; nothing is decided here.

Only `on.event` handlers: they keep no state in annotations and add no finalizers, and after a restart the first
listing triggers every Worker once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import kopf

from perdure.reconciler.objects.common import LABEL, MANAGED_BY
from perdure.reconciler.objects.probe import LABEL as PROBE
from perdure.reconciler.references import References
from perdure.reconciler.workqueue import Key

_CHILDREN = (
    ("", "v1", "serviceaccounts"),
    ("", "v1", "services"),
    ("", "v1", "pods"),
    ("apps", "v1", "deployments"),
    ("apps", "v1", "statefulsets"),
    ("policy", "v1", "poddisruptionbudgets"),
)
_SETTLE = 0.2


def settings() -> kopf.OperatorSettings:
    """Without peering (a Lease elects), without events of kopf's own, watching labelled children only."""
    found = kopf.OperatorSettings()
    found.peering.standalone = True
    found.posting.enabled = False
    found.scanning.disabled = True
    found.networking.request_timeout = 30
    found.watching.chunk_size = 500
    for group, version, plural in _CHILDREN:
        found.watching.label_selectors[group, version, plural] = LABEL
    # Those of Workers and those of providers.
    found.watching.label_selectors["batch", "v1", "jobs"] = f"{MANAGED_BY}=perdure"
    return found


def registry(trigger: Callable[[Key, float], None], references: References, seen: Callable[[], None]) -> Any:
    """The handlers. `seen` notes that a watch is alive. The registry's type is kopf's own and not public."""
    handlers = kopf.OperatorRegistry()
    generations: dict[str, int] = {}

    @kopf.on.login(registry=handlers)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**kwargs)

    @kopf.on.event("perdure.dev", "v1alpha1", "workers", registry=handlers)
    async def worker(name: str, namespace: str | None, **_: object) -> None:
        seen()
        trigger((namespace or "", name), 0.0)

    @kopf.on.event("perdure.dev", "v1alpha1", "keyvalueproviders", registry=handlers)
    async def provider(name: str, meta: Any, event: Any, **_: object) -> None:
        seen()
        generation = 0 if event.get("type") == "DELETED" else meta.get("generation", 1)
        # Our own status patches come back as events: only a new generation concerns the Workers.
        if generations.get(name) != generation:
            generations[name] = generation
            trigger(("", name), 0.0)
            for key in references.workers():
                trigger(key, _SETTLE)

    @kopf.on.event("", "v1", "configmaps", registry=handlers)
    async def config_map(name: str, namespace: str | None, labels: Any, **_: object) -> None:
        seen()
        _child(labels, namespace)
        for key in references.of_config_map(namespace or "", name):
            trigger(key, 0.0)

    def _child(labels: Any, namespace: str | None) -> None:
        owner = labels.get(LABEL)
        if owner is not None:
            trigger((namespace or "", owner), _SETTLE)

    @kopf.on.event("batch", "v1", "jobs", registry=handlers)
    async def job(namespace: str | None, labels: Any, meta: Any, **_: object) -> None:
        seen()
        _child(labels, namespace)
        if PROBE in labels:
            for owner in meta.get("ownerReferences", []):
                trigger(("", owner["name"]), _SETTLE)

    async def child(namespace: str | None, labels: Any, **_: object) -> None:
        seen()
        _child(labels, namespace)

    for group, version, plural in _CHILDREN:
        kopf.on.event(group, version, plural, id=f"child-{plural}", registry=handlers)(child)
    return handlers


def quiet_kopf() -> None:
    """kopf tells of every event at debug and of every handler at info."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
