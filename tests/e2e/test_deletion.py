"""Deleting a Worker removes what it owns, and its data where the manifest says so."""

from __future__ import annotations

from collections.abc import Callable

from e2e.workers import provider, worker
from support.cluster.kubectl import Kubectl, call, eventually

OWNED = "deployment,statefulset,service,configmap,serviceaccount,poddisruptionbudget,pod,job"


def gone(kubectl: Kubectl) -> Callable[[], bool]:
    return lambda: not kubectl.list(OWNED, "perdure.dev/worker=counter")


def filled(kubectl: Kubectl, policy: str) -> str:
    """Deploy, write, and return the pattern of the Worker's keys."""
    kubectl.apply(worker(replicas=2, deletionPolicy=policy))
    kubectl.wait_ready("counter")
    for number in range(5):
        call(kubectl.client("counter"), f"i{number}", "increment", "numbers", f"n{number}")
    return f"*{{{kubectl.namespace}/counter}}*"


def test_delete_with_the_data(kubectl: Kubectl, redis_keys: Callable[[str], list[str]]) -> None:
    pattern = filled(kubectl, "Delete")
    assert redis_keys(pattern)
    kubectl.run("delete", "worker", "counter", "--wait=true", seconds=180)
    assert redis_keys(pattern) == []
    eventually(gone(kubectl), "all objects gone")
    reasons = {event["reason"] for event in kubectl.list("event")}
    assert "DataDeleted" in reasons


def test_foreground_deletion_with_the_data(kubectl: Kubectl, redis_keys: Callable[[str], list[str]]) -> None:
    pattern = filled(kubectl, "Delete")
    kubectl.run("delete", "worker", "counter", "--cascade=foreground", "--wait=true", seconds=180)
    assert redis_keys(pattern) == []
    eventually(gone(kubectl), "all objects gone")


def test_delete_and_retain(kubectl: Kubectl, redis_keys: Callable[[str], list[str]]) -> None:
    pattern = filled(kubectl, "Retain")
    kubectl.run("delete", "worker", "counter", "--wait=true")
    eventually(gone(kubectl), "all objects gone")
    assert redis_keys(pattern)
    # The same Worker made anew finds everything again, the instances' memory included.
    kubectl.apply(worker(replicas=1, deletionPolicy="Delete"))
    kubectl.wait_ready("counter")
    assert call(kubectl.client("counter"), "i3", "calls") == 1
    kubectl.run("delete", "worker", "counter", "--wait=true", seconds=180)
    assert redis_keys(pattern) == []


def test_a_purge_that_cannot_be_made_is_forced(kubectl: Kubectl, cluster: Kubectl) -> None:
    name = f"gone-{kubectl.namespace}"
    default = cluster.get("kvp", "default") or {}
    cluster.apply(provider(name, redis=default["spec"]["redis"]))
    kubectl.apply(worker(replicas=1, deletionPolicy="Delete", keyValue={"provider": name}))
    kubectl.wait_ready("counter")
    cluster.run("delete", "kvp", name)
    kubectl.run("delete", "worker", "counter", "--wait=false")

    def told() -> bool:
        found = kubectl.get("worker", "counter") or {}
        ready = next(c for c in found["status"]["conditions"] if c["type"] == "Ready")
        return ready["reason"] == "Deleting" and f"KeyValueProvider {name} not found" in ready["message"]

    eventually(told, "the reason why it waits")
    kubectl.run("annotate", "worker", "counter", "perdure.dev/force-delete=true")
    eventually(lambda: kubectl.get("worker", "counter") is None, "gone by force", 30)
    assert "DataLeft" in {event["reason"] for event in kubectl.list("event")}
