"""Changes roll out, replicas follow, and what somebody breaks is restored."""

from __future__ import annotations

from typing import Any

from e2e.workers import provider, worker
from perdure.cli.client import ApiError
from support.cluster.kubectl import Kubectl, call, eventually
from support.guests import guest


def uids(kubectl: Kubectl) -> set[str]:
    return {pod["metadata"]["uid"] for pod in kubectl.hosts("counter")}


def test_bucket_configuration_rolls_out(kubectl: Kubectl) -> None:
    kubectl.apply(worker(replicas=2, keyValue={"undeclaredBuckets": "Deny", "buckets": [{"name": "numbers"}]}))
    kubectl.wait_ready("counter")
    client, before = kubectl.client("counter"), uids(kubectl)
    assert call(client, "a", "increment", "numbers", "n") == {"ok": 1}
    assert "err" in call(client, "a", "increment", "others", "n")
    buckets = [{"name": "numbers", "access": "ReadOnly"}, {"name": "others", "maxValueBytes": 1}]
    kubectl.apply(worker(replicas=2, keyValue={"undeclaredBuckets": "Deny", "buckets": buckets}))
    kubectl.wait_ready("counter")
    assert not before & uids(kubectl)
    assert "err" in call(client, "a", "increment", "numbers", "n")
    assert call(client, "a", "increment", "others", "n") == {"ok": 1}
    assert "err" in call(client, "a", "set", "others", "n", [1, 2])
    # The instance's memory went over to the new pods. A call that returned an error did not reach the counter.
    assert call(client, "a", "calls") == 2


def test_another_provider_rolls_out(kubectl: Kubectl, cluster: Kubectl) -> None:
    name = f"second-{kubectl.namespace}"
    default = cluster.get("kvp", "default") or {}
    url = default["spec"]["redis"]["url"].removesuffix("/0") + "/5"
    cluster.apply(provider(name, redis={"url": url}))
    try:
        kubectl.apply(worker(replicas=1))
        kubectl.wait_ready("counter")
        assert call(kubectl.client("counter"), "a", "increment", "b", "n") == {"ok": 1}
        kubectl.apply(worker(replicas=1, keyValue={"provider": name, "undeclaredBuckets": "Allow"}))
        found = kubectl.wait_ready("counter")
        assert found["status"]["provider"] == name
        # Another database: another home, where nothing is yet.
        assert call(kubectl.client("counter"), "a", "increment", "b", "n") == {"ok": 1}
        eventually(
            lambda: (cluster.get("kvp", name) or {})["status"]["workers"] == 1, "the provider counts its Workers"
        )
        # A change of the provider itself reaches the pods, too.
        before = uids(kubectl)
        cluster.run("patch", "kvp", name, "--type=merge", "-p", '{"spec": {"redis": {"timeout": "3s"}}}')
        eventually(lambda: uids(kubectl) and not before & uids(kubectl), "new pods", 90)
        kubectl.wait_ready("counter")
    finally:
        kubectl.run("delete", "worker", "counter")
        cluster.run("delete", "kvp", name)


def test_a_new_component_rolls_out_and_memory_stays(kubectl: Kubectl) -> None:
    kubectl.config_map("changing", "component.wasm", guest("kv-g4"))
    kubectl.apply(worker(replicas=1, component={"configMap": {"name": "changing"}}))
    first = kubectl.wait_ready("counter")["status"]["component"]["digest"]
    client = kubectl.client("counter")
    call(client, "a", "increment", "b", "n")
    kubectl.config_map("changing", "component.wasm", guest("kv-g3"))
    eventually(lambda: (kubectl.get("worker", "counter") or {})["status"]["component"]["digest"] != first, "digest", 60)
    kubectl.wait_ready("counter")
    # A new instance runs on the new component; the old one's code is pinned, and it says so instead of guessing.
    assert call(client, "b", "increment", "b", "n") == {"ok": 2}
    try:
        assert call(kubectl.client("counter", retries=1), "a", "increment", "b", "n") == {"ok": 3}
    except ApiError as error:
        assert error.status == 503
        assert first in str(error)


def test_scale(kubectl: Kubectl) -> None:
    kubectl.apply(worker(replicas=1))
    kubectl.wait_ready("counter")
    call(kubectl.client("counter"), "a", "increment", "b", "n")
    for replicas in (3, 0, 1):
        kubectl.run("scale", "wk", "counter", f"--replicas={replicas}")

        def done(wanted: int = replicas) -> bool:
            status = (kubectl.get("worker", "counter") or {}).get("status", {})
            return bool(status["replicas"] == status["readyReplicas"] == wanted)

        eventually(done, f"{replicas} replicas", 120)
        if replicas == 0:
            assert "replicas is 0" in kubectl.condition("counter", "Available")["message"]
    kubectl.wait_ready("counter")
    assert call(kubectl.client("counter"), "a", "increment", "b", "n") == {"ok": 2}


def autoscaler(kind: str, api: str, replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": kind.lower()},
        "spec": {
            "scaleTargetRef": {"apiVersion": api, "kind": kind, "name": "counter"},
            "minReplicas": replicas,
            "maxReplicas": replicas,
            "metrics": [
                {"type": "Resource",
                 "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
            ],
        },
    }  # fmt: skip


def test_an_autoscaler_of_the_worker(kubectl: Kubectl) -> None:
    kubectl.apply(worker(replicas=1))
    kubectl.wait_ready("counter")
    kubectl.apply(autoscaler("Worker", "perdure.dev/v1alpha1", 2))
    eventually(lambda: (kubectl.get("worker", "counter") or {})["spec"]["replicas"] == 2, "the scale subresource", 90)
    eventually(lambda: len(kubectl.hosts("counter")) == 2, "two hosts")


def test_an_autoscaler_of_the_deployment(kubectl: Kubectl) -> None:
    kubectl.apply(worker(replicas=1))
    kubectl.wait_ready("counter")
    kubectl.apply(autoscaler("Deployment", "apps/v1", 2))
    eventually(lambda: (kubectl.get("deployment", "counter") or {})["spec"]["replicas"] == 2, "the autoscaler acts", 90)
    kubectl.run("annotate", "wk", "counter", "touch=1")
    kubectl.run("label", "deployment", "counter", "touch=1")
    eventually(lambda: (kubectl.get("worker", "counter") or {})["status"]["readyReplicas"] == 2, "two ready", 60)
    assert (kubectl.get("deployment", "counter") or {})["spec"]["replicas"] == 2


def test_drift_is_repaired(kubectl: Kubectl) -> None:
    kubectl.apply(worker(replicas=1))
    kubectl.wait_ready("counter")
    kubectl.run("delete", "service", "counter")
    eventually(lambda: kubectl.get("service", "counter"), "a deleted Service comes back", 15)
    kubectl.run("delete", "pdb", "counter")
    eventually(lambda: kubectl.get("poddisruptionbudget", "counter"), "a deleted PodDisruptionBudget comes back", 15)
    kubectl.run("scale", "deployment", "counter", "--replicas=3")
    eventually(lambda: (kubectl.get("deployment", "counter") or {})["spec"]["replicas"] == 1, "replicas", 15)
    patch = '{"spec": {"template": {"spec": {"automountServiceAccountToken": true}}}}'
    kubectl.run("patch", "deployment", "counter", "--type=merge", "-p", patch)

    def restored() -> bool:
        found = kubectl.get("deployment", "counter") or {}
        return found["spec"]["template"]["spec"]["automountServiceAccountToken"] is False

    eventually(restored, "an edited Deployment", 15)
    kubectl.run("patch", "configmap", "counter-config", "--type=merge", "-p", '{"data": {"perdure.yaml": "x"}}')
    eventually(lambda: (kubectl.get("configmap", "counter-config") or {})["data"]["perdure.yaml"] != "x", "config", 15)
    # What somebody else added is theirs.
    kubectl.run("annotate", "service", "counter", "example.com/mine=yes")
    kubectl.run("delete", "deployment", "counter")
    eventually(lambda: kubectl.get("deployment", "counter"), "a deleted Deployment comes back", 15)
    kubectl.wait_ready("counter")
    service = kubectl.get("service", "counter") or {}
    assert service["metadata"]["annotations"]["example.com/mine"] == "yes"
