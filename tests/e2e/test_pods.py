"""A Worker's pods: the user's template, the *restricted* standard, and what the operator and its users may do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.conftest import SYSTEM, Release
from e2e.workers import restricted_pod, worker
from support.cluster.kubectl import CommandFailed, Kubectl, call, eventually

OPERATOR = f"system:serviceaccount:{SYSTEM}:perdure"


def test_a_template_passes_through(kubectl: Kubectl) -> None:
    template: dict[str, Any] = {"spec": {"nodeSelector": {"example.com/disk": "none"}}}
    kubectl.apply(worker(replicas=1, podTemplate=template))
    words = "cannot be scheduled"
    eventually(lambda: words in kubectl.condition("counter").get("message", ""), lambda: kubectl.describe("counter"))

    kubectl.run("create", "serviceaccount", "mine")
    kubectl.run("create", "configmap", "extra", "--from-literal=greeting=hello")
    mounts = [{"name": "extra", "mountPath": "/extra"}, {"name": "extra", "mountPath": "/again"}]
    template = {
        "metadata": {"labels": {"team": "a"}, "annotations": {"example.com/note": "n"}},
        "spec": {
            "serviceAccountName": "mine",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
            ],
            "volumes": [{"name": "extra", "configMap": {"name": "extra"}}],
            "containers": [{"name": "host", "volumeMounts": mounts, "resources": {"limits": {"memory": "512Mi"}}}],
        },
    }
    kubectl.apply(worker(replicas=1, podTemplate=template))
    kubectl.wait_ready("counter")
    assert call(kubectl.client("counter"), "a", "increment", "b", "n") == {"ok": 1}
    (pod,) = kubectl.hosts("counter")
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["annotations"]["example.com/note"] == "n"
    assert spec["serviceAccountName"] == "mine"
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert template["spec"]["tolerations"][0] in spec["tolerations"]
    assert spec["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert container["resources"] == {"limits": {"memory": "512Mi"}, "requests": {"cpu": "50m", "memory": "128Mi"}}
    assert kubectl.get("serviceaccount", "counter") is None, "the Worker's own is not needed any more"
    name = pod["metadata"]["name"]
    assert kubectl.run("exec", name, "--", "cat", "/extra/greeting", "/again/greeting") == "hellohello"
    # The user's account brings no token into the pod.
    with pytest.raises(CommandFailed):
        kubectl.run("exec", name, "--", "ls", "/var/run/secrets/kubernetes.io/serviceaccount")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"metadata": {"labels": {"a": 1}}}, "spec.podTemplate.metadata.labels.a"),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.podTemplate.spec.containers[0].name"),
        ({"spec": {"volumes": [{"name": "a"}, {"name": "a"}]}}, "spec.podTemplate.spec.volumes[1]"),
    ],
)
def test_a_template_without_shape_is_refused_at_once(kubectl: Kubectl, template: dict[str, Any], words: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        kubectl.apply(worker("bad", podTemplate=template))
    assert words in str(refused.value)


def test_the_namespaces_of_these_tests_admit_restricted_pods_only(kubectl: Kubectl, release: Release) -> None:
    """Everything of ours runs in such namespaces, the operator, the bundled Redis and the chart's test included."""
    for where in (kubectl, release.kubectl):
        pod = restricted_pod("root", {"name": "a", "image": "a"})
        pod["spec"]["securityContext"]["runAsNonRoot"] = False
        with pytest.raises(CommandFailed) as refused:
            where.run("create", "-f", "-", "--dry-run=server", stdin=json.dumps(pod))
        assert 'violates PodSecurity "restricted' in str(refused.value)
        assert "runAsNonRoot" in str(refused.value)


def may(cluster: Kubectl, who: str, verb: str, what: str, namespace: str = "default") -> bool:
    """`what`: a type, `type/name` or `type:subresource`."""
    kind, _, subresource = what.partition(":")
    try:
        out = cluster.within(namespace).run("auth", "can-i", verb, kind, f"--subresource={subresource}", f"--as={who}")
    except CommandFailed as refused:
        out = str(refused)
    return out.strip().splitlines()[-1] == "yes"


def test_the_operator_may_do_what_it_needs_and_no_more(cluster: Kubectl, release: Release) -> None:
    needed = ["get secrets", "patch deployments.apps", "create jobs.batch", "delete persistentvolumeclaims",
              "patch workers.perdure.dev:status", "update workers.perdure.dev:finalizers"]  # fmt: skip
    forbidden = [
        "list secrets", "watch secrets", "create secrets", "create pods", "delete pods", "create pods:exec",
        "list persistentvolumeclaims", "create persistentvolumeclaims", "delete namespaces", "get nodes",
        "delete workers.perdure.dev", "create workers.perdure.dev", "delete keyvalueproviders.perdure.dev",
        "create clusterroles.rbac.authorization.k8s.io", "impersonate serviceaccounts", "create serviceaccounts:token",
    ]  # fmt: skip
    assert [one for one in needed if not may(cluster, OPERATOR, *one.split())] == []
    assert [one for one in forbidden if may(cluster, OPERATOR, *one.split())] == []
    # Its lease lies in its own namespace.
    assert may(cluster, OPERATOR, "update", "leases.coordination.k8s.io/perdure-operator", SYSTEM)
    assert not may(cluster, OPERATOR, "update", "leases.coordination.k8s.io/perdure-operator")
    assert not may(cluster, OPERATOR, "update", "leases.coordination.k8s.io/another", SYSTEM)


def test_who_may_edit_a_namespace_may_have_workers_there(kubectl: Kubectl, cluster: Kubectl) -> None:
    for role, user in (("edit", "ann"), ("view", "bob")):
        kubectl.run("create", "rolebinding", role, f"--clusterrole={role}", f"--user={user}")
    here = kubectl.namespace
    for verb, what in (("create", "workers.perdure.dev"), ("patch", "workers.perdure.dev:scale")):
        assert may(cluster, "ann", verb, what, here)
        assert not may(cluster, "bob", verb, what, here)
        assert not may(cluster, "ann", verb, what, "default")
    assert may(cluster, "bob", "list", "workers.perdure.dev", here)
    assert not may(cluster, "ann", "patch", "workers.perdure.dev:status", here)
    assert not may(cluster, "ann", "create", "keyvalueproviders.perdure.dev", here)
    kubectl.apply(worker(replicas=0))
    kubectl.run("scale", "wk", "counter", "--replicas=1", "--as=ann")
    with pytest.raises(CommandFailed):
        kubectl.run("scale", "wk", "counter", "--replicas=0", "--as=bob")


def test_a_namespace_is_deleted_with_its_workers(kubectl: Kubectl, cluster: Kubectl) -> None:
    """No Job can run in it any more; it is not held up for that."""
    kubectl.apply(worker(replicas=1, deletionPolicy="Delete"))
    kubectl.wait_ready("counter")
    cluster.run("delete", "namespace", kubectl.namespace, "--wait=true", "--timeout=90s")
