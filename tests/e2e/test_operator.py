"""Operators come and go, one at a time leads, and no host pod notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.conftest import Release, ready_operator
from e2e.workers import worker
from support.cluster.kubectl import Kubectl, call, eventually


@pytest.fixture
def pods(kubectl: Kubectl) -> Iterator[dict[str, str]]:
    """Host pods by uid with their restart counts; the very same must be there at the end."""

    def now() -> dict[str, str]:
        found = kubectl.hosts("counter")
        return {p["metadata"]["uid"]: p["status"]["containerStatuses"][0]["restartCount"] for p in found}

    kubectl.apply(worker(replicas=2))
    kubectl.wait_ready("counter")
    before = now()
    yield before
    assert now() == before


def leader(release: Release) -> str:
    lease = release.kubectl.get("lease", "perdure-operator") or {}
    return str(lease["spec"].get("holderIdentity", ""))


def metrics(release: Release, pod: str) -> dict[str, float]:
    """Samples by name and label values."""
    text = release.kubectl.pod_client(pod, 9090).request("GET", "/metrics").decode()
    families = text_string_to_metric_families(text)
    return {s.name + "".join(s.labels.values()): s.value for family in families for s in family.samples}


def reconciles(kubectl: Kubectl) -> bool:
    """Whether somebody reconciles: a deleted child comes back."""
    kubectl.run("delete", "pdb", "counter")
    eventually(lambda: kubectl.get("poddisruptionbudget", "counter"), "a deleted child comes back", 60)
    return True


def test_restart_and_upgrade(kubectl: Kubectl, release: Release, pods: dict[str, str]) -> None:
    first = leader(release)
    release.kubectl.run("rollout", "restart", "deployment/perdure-operator")
    ready_operator(release.kubectl)
    eventually(lambda: leader(release) not in ("", first), "another leader")
    assert reconciles(kubectl)
    release.upgrade("--set=podAnnotations.upgrade=yes", "--set=logLevel=debug")
    ready_operator(release.kubectl)
    assert reconciles(kubectl)
    release.upgrade()


def test_two_operators(kubectl: Kubectl, release: Release, pods: dict[str, str]) -> None:
    release.upgrade("--set=replicaCount=2")
    ready_operator(release.kubectl)
    found = [pod["metadata"] for pod in release.kubectl.list("pod", "app.kubernetes.io/component=operator")]
    operators = [metadata["name"] for metadata in found if "deletionTimestamp" not in metadata]
    assert len(operators) == 2

    def leading() -> list[str]:
        return [pod for pod in operators if metrics(release, pod)["perdure_operator_is_leader"] == 1]

    eventually(lambda: len(leading()) == 1, "exactly one leads")
    (first,) = leading()
    assert leader(release).startswith(first)
    assert reconciles(kubectl)
    # The leader is killed without a chance to say so: the other takes over when the lease has run out.
    release.kubectl.run("delete", "pod", first, "--force", "--grace-period=0")
    eventually(lambda: not leader(release).startswith(first), "the standby takes over", 60)
    assert reconciles(kubectl)
    assert call(kubectl.client("counter"), "a", "increment", "b", "n") == {"ok": 1}
    release.upgrade()
    ready_operator(release.kubectl)


def test_the_operators_metrics(kubectl: Kubectl, release: Release, pods: dict[str, str]) -> None:
    (pod,) = [p for p in release.kubectl.list("pod", "app.kubernetes.io/component=operator")
              if "deletionTimestamp" not in p["metadata"]]  # fmt: skip

    name = pod["metadata"]["name"]
    eventually(lambda: metrics(release, name)["perdure_operator_workerstrue"] >= 1, "ready Workers are counted")
    found = metrics(release, name)
    assert found["perdure_operator_is_leader"] == 1
    assert found["perdure_operator_reconciles_totalok"] > 0
    assert found["perdure_operator_providerstrue"] >= 1
