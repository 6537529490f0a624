"""Where a component comes from: an image, a URL, a volume. Its digest is pinned, and hosts run no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.artifacts import Artifacts, artifact_servers
from e2e.conftest import IMAGE, REGISTRY, Release
from e2e.workers import restricted_pod, worker
from support.artifacts import digest_of
from support.cluster.kubectl import Kubectl, call, eventually
from support.cluster.volumes import volume_for
from support.guests import guest


@pytest.fixture(scope="module")
def artifacts(cluster: Kubectl, release: Release) -> Iterator[Artifacts]:
    with artifact_servers(cluster) as found:
        yield found


def sha256(name: str) -> str:
    return digest_of(guest(name).read_bytes())


def running(kubectl: Kubectl) -> str:
    """The digest of what the hosts run, by their own account."""
    return str(json.loads(kubectl.client("counter").request("GET", "/v1/component"))["digest"])


def refuses(kubectl: Kubectl, reason: str, *words: str) -> None:
    def check() -> bool:
        found = kubectl.condition("counter", "ComponentResolved")
        assert (found.get("status"), found.get("reason")) == ("False", reason), kubectl.describe("counter")
        assert all(word in found["message"] for word in words), found["message"]
        assert kubectl.condition("counter")["message"] == found["message"]
        return True

    eventually(check, lambda: kubectl.describe("counter"), 60)


def test_an_image_is_pinned_and_a_moved_tag_changes_nothing(kubectl: Kubectl, artifacts: Artifacts) -> None:
    repository = f"tests/{kubectl.namespace}"
    first = artifacts.push(repository, "1.0", "kv-g4")
    source: dict[str, Any] = {"image": f"{REGISTRY}/{repository}:1.0"}
    kubectl.apply(worker(replicas=1, component=source))
    refuses(kubectl, "ComponentNotFound", "asks for credentials (spec.component.pullSecrets)")
    source["pullSecrets"] = [{"name": "login"}]
    artifacts.login(kubectl, "login")
    kubectl.apply(worker(replicas=1, component=source))
    pinned = kubectl.wait_ready("counter")["status"]["component"]
    assert pinned["digest"] == first.component == sha256("kv-g4")
    assert pinned["source"] == f"image {source['image']}@{first.digest}"
    assert pinned["size"] == guest("kv-g4").stat().st_size
    assert call(kubectl.client("counter"), "a", "increment", "b", "n") == {"ok": 1}

    # The tag moves, a pod dies, the Worker is reconciled: the same code runs, with what it remembers.
    second = artifacts.push(repository, "1.0", "kv-g3")
    assert second.component != first.component
    (before,) = kubectl.hosts("counter")
    kubectl.run("delete", "pod", before["metadata"]["name"], "--force", "--grace-period=0")
    kubectl.run("annotate", "worker", "counter", "example.com/touch=1")
    found = kubectl.wait_ready("counter")["status"]["component"]
    assert (found["digest"], found["source"]) == (pinned["digest"], pinned["source"])
    assert call(kubectl.client("counter"), "a", "increment", "b", "n", key="again") == {"ok": 2}
    assert call(kubectl.client("counter"), "a", "calls") == 2
    assert running(kubectl) == first.component
    # The negative control: the manifest asks for another component, and the tag is looked up again.
    kubectl.apply(worker(replicas=1, component={**source, "sha256": second.component}))
    assert kubectl.wait_ready("counter")["status"]["component"]["digest"] == second.component
    assert running(kubectl) == second.component


def test_a_url_with_its_digest(kubectl: Kubectl, artifacts: Artifacts) -> None:
    wrong = "sha256:" + "0" * 64
    kubectl.apply(worker(replicas=1, component={"url": artifacts.web, "sha256": wrong}))
    # The host has fetched it and refuses what is not the pinned component.
    refuses(kubectl, "ComponentRefused", artifacts.web, sha256("kv-g4"), wrong)
    kubectl.apply(worker(replicas=1, component={"url": artifacts.web, "sha256": sha256("kv-g4")}))
    status = kubectl.wait_ready("counter")["status"]
    assert status["component"]["digest"] == running(kubectl) == sha256("kv-g4")
    assert call(kubectl.client("counter"), "a", "increment", "b", "n") == {"ok": 1}


def test_a_file_on_a_volume(kubectl: Kubectl) -> None:
    with volume_for(kubectl, "components"):
        fill(kubectl, "components")
        source = {"claimName": "components", "path": "team/carts.wasm"}
        component = {"persistentVolumeClaim": source, "sha256": sha256("kv-g3")}
        kubectl.apply(worker(replicas=1, component=component))
        # The operator cannot see the file: the host verifies it before it runs.
        refuses(kubectl, "ComponentRefused", sha256("kv-g4"), sha256("kv-g3"))
        kubectl.apply(worker(replicas=1, component={**component, "sha256": sha256("kv-g4")}))
        kubectl.wait_ready("counter")
        assert running(kubectl) == sha256("kv-g4")
        assert call(kubectl.client("counter"), "a", "increment", "b", "n") == {"ok": 1}
        (pod,) = kubectl.hosts("counter")
        mounts = {m["mountPath"]: m for m in pod["spec"]["containers"][0]["volumeMounts"]}
        assert mounts["/etc/perdure/component"]["readOnly"] is True
        kubectl.run("delete", "worker", "counter")


def fill(kubectl: Kubectl, claim: str) -> None:
    """Make the claim, and put the counter on its volume."""
    container = {
        "name": "fill",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "mkdir -p /out/team && cp /in/component.wasm /out/team/carts.wasm"],
        "volumeMounts": [{"name": "in", "mountPath": "/in"}, {"name": "out", "mountPath": "/out"}],
    }
    volumes = [{"name": "in", "configMap": {"name": "counter"}},
               {"name": "out", "persistentVolumeClaim": {"claimName": claim}}]  # fmt: skip
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim}, "spec": wanted},
        restricted_pod("fill", container, volumes=volumes, restartPolicy="Never"),
    )
    kubectl.run("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/fill", "--timeout=60s")
