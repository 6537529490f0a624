"""Reading what the cluster says of a Worker's pods. Pure functions over API objects."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from perdure.reconciler.api import Object
from perdure.reconciler.objects.pods import CHECKSUM, CONTAINER

_NOISE = ("ContainerCreating", "PodInitializing")
_STARTS = datetime.timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Pods:
    """`current`: pods with the present configuration. `stopping`: hosts with a former one that go and still answer. See
    `conditions.Facts` for the rest."""

    total: int
    ready: int
    current: int
    stopping: int
    refusal: tuple[str, str] | None
    waiting: str | None
    silent: str | None
    """The address of a current pod whose host runs, is not ready, and has not ended with words of its own."""
    addresses: tuple[str, ...] = ()
    """Of hosts that run, with the present configuration if there are any; those that are ready first."""


def observe(pods: Iterable[Object], checksum: str, now: datetime.datetime) -> Pods:
    """Pods that are going do not count, nor those that have ended for good (evicted ones stay in the list)."""
    running = [pod for pod in pods if not _has_ended(pod)]
    alive = [pod for pod in running if not _is_going(pod)]
    current = [pod for pod in alive if _checksum(pod) == checksum]
    stopping = [pod for pod in running if _is_going(pod) and _runs(pod) and _checksum(pod) != checksum]
    waiting = next((reason for pod in current if (reason := why_waiting(pod)) is not None), None)
    waiting = waiting or next((words for pod in current if (words := _stuck(pod, now)) is not None), None)
    refusal = next((found for pod in current if (found := _refusal(pod)) is not None), None)
    silent = next((address for pod in current if (address := _silent(pod)) is not None), None)
    ready = sum(map(_is_ready, alive))
    speakers = [pod for pod in current if _answers(pod)] or [pod for pod in alive if _answers(pod)]
    addresses = tuple(str(pod["status"]["podIP"]) for pod in sorted(speakers, key=_is_ready, reverse=True))
    return Pods(len(alive), ready, len(current), len(stopping), refusal, waiting, silent, addresses)


def _has_ended(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def _is_going(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _checksum(pod: Object) -> str | None:
    found: str | None = pod["metadata"].get("annotations", {}).get(CHECKSUM)
    return found


def _runs(pod: Object) -> bool:
    return "running" in container_status(pod).get("state", {})


def _answers(pod: Object) -> bool:
    return _runs(pod) and bool(pod["status"].get("podIP"))


def _silent(pod: Object) -> str | None:
    if _is_ready(pod) or not _runs(pod):
        return None
    address = pod["status"].get("podIP")
    return str(address) if address else None


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)


def container_status(pod: Object, name: str = CONTAINER) -> Object:
    """What the kubelet says of one container."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((status for status in statuses if status["name"] == name), {})


def _refusal(pod: Object) -> tuple[str, str] | None:
    """What the host wrote before it ended: `code: sentence`."""
    if _is_ready(pod):
        return None
    status = container_status(pod)
    for state in (status.get("state", {}), status.get("lastState", {})):
        message = state.get("terminated", {}).get("message", "")
        code, colon, sentence = message.partition(": ")
        if colon and code.replace("-", "").isalpha():
            return code, sentence.strip()
    return None


def why_waiting(pod: Object, container: str = CONTAINER) -> str | None:
    """Why a pod, or its container, does not start."""
    name = pod["metadata"]["name"]
    for found in pod.get("status", {}).get("conditions", []):
        if found["type"] == "PodScheduled" and found["status"] == "False":
            return f"pod {name} cannot be scheduled: {found.get('message', found.get('reason', ''))}"
    if (waiting := _waiting(container_status(pod, container))) is not None:
        refusal = _refusal(pod)
        detail = refusal[1] if refusal else waiting.get("message", "")
        return f"pod {name}: {waiting['reason']}: {detail}"
    found = pod.get("status", {})
    for other in (*found.get("initContainerStatuses", []), *found.get("containerStatuses", [])):
        if (waiting := _waiting(other)) is not None:
            return f"pod {name}, container {other['name']}: {waiting['reason']}: {waiting.get('message', '')}"
    return None


def _waiting(status: Object) -> Object | None:
    found: Object | None = status.get("state", {}).get("waiting")
    return found if found and found.get("reason") not in _NOISE else None


def _stuck(pod: Object, now: datetime.datetime) -> str | None:
    """A pod that waits for a volume says so in events only, which the operator may not read."""
    state, since = container_status(pod).get("state", {}), pod.get("status", {}).get("startTime")
    if since is None or state.get("waiting", {}).get("reason") not in _NOISE:
        return None
    if now - datetime.datetime.fromisoformat(since) < _STARTS:
        return None
    name = pod["metadata"]["name"]
    return f"pod {name} is being started since {since}: kubectl describe pod {name} says what it waits for"


def why_no_pods(workload: Object) -> str | None:
    """Why a workload does not get the pods it should have: a quota, a policy, an admission webhook."""
    kind, name = workload["kind"], workload["metadata"]["name"]
    status = workload.get("status", {})
    for found in status.get("conditions", []):
        if found["type"] == "ReplicaFailure" and found["status"] == "True":
            return f"{kind} {name}: {found.get('reason', '')}: {found.get('message', '')}"
    # A StatefulSet has no such condition, only events.
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 1)
    if kind == "StatefulSet" and seen and not status.get("replicas") and workload["spec"].get("replicas"):
        return f"StatefulSet {name} has no pod: kubectl describe statefulset {name} says why"
    return None
