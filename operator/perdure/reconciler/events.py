"""Kubernetes events, on transitions only. Losing one harms nothing, so a failure is logged and forgotten."""

from __future__ import annotations

import datetime
import logging
import uuid
from typing import Literal

from perdure.reconciler.api import KINDS, UNREACHED, ApiError, Cluster, Object

log = logging.getLogger(__name__)
_COMPONENT = "perdure-operator"


async def post_event(
    cluster: Cluster, about: Object, kind: Literal["Normal", "Warning"], reason: str, message: str
) -> None:
    """`about`: the object itself. `reason`: one word in CamelCase. `message`: at most 1024 characters are kept."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta = about["metadata"]
    namespace = meta.get("namespace", "default")
    event: Object = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": meta["name"],
            # None of an object of the cluster's, or `kubectl describe` does not find the event.
            **({"namespace": namespace} if "namespace" in meta else {}),
            "uid": meta.get("uid", ""),
            "resourceVersion": meta.get("resourceVersion", ""),
        },
        "type": kind,
        "reason": reason,
        "message": message[:1024],
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        await cluster.create(KINDS["Event"], namespace, event)
    except (ApiError, *UNREACHED) as error:
        if not isinstance(error, ApiError) or not error.namespace_ends:
            log.warning("an event was not written: %s", error, extra={"fields": {"reason": reason}})
