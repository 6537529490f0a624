"""One cluster and one installed chart for all end-to-end tests; a namespace of its own, *restricted*, for each."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.workers import provider
from support.cluster.kubectl import Kubectl, eventually, proxied
from support.cluster.local import local_cluster
from support.guests import guest

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "perdure-system"
RELEASE = "perdure"
ARTIFACTS = "perdure-artifacts"
REGISTRY = f"registry.{ARTIFACTS}.svc:5000"
IMAGE = os.environ.get("PERDURE_E2E_IMAGE", "localhost/perdure:e2e")
REDIS_IMAGE = os.environ.get("PERDURE_E2E_REDIS_IMAGE", "localhost/redis:e2e")
REGISTRY_IMAGE = os.environ.get("PERDURE_E2E_REGISTRY_IMAGE", "localhost/registry:e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubectl]:
    given = os.environ.get("KUBECONFIG")
    if given:
        with proxied(given) as found:
            yield found
    else:
        with local_cluster() as kubeconfig, proxied(kubeconfig) as found:
            yield found


@dataclass(frozen=True)
class Release:
    """The installed chart."""

    kubectl: Kubectl
    values: tuple[str, ...]

    def helm(self, *args: str) -> str:
        command = ["helm", f"--kubeconfig={self.kubectl.kubeconfig}", f"--namespace={SYSTEM}", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def upgrade(self, *values: str) -> None:
        self.helm("upgrade", "--install", "--create-namespace", RELEASE, str(ROOT / "charts" / "perdure"), "--wait",
                  "--timeout=3m", *self.values, *values)  # fmt: skip

    def logs(self) -> str:
        return self.kubectl.run("logs", "-l", "app.kubernetes.io/component=operator", "--tail=-1", "--prefix")


@pytest.fixture(scope="session")
def release(cluster: Kubectl) -> Iterator[Release]:
    assert shutil.which("helm"), "helm is not installed: run `make e2e`"
    repository, _, tag = IMAGE.rpartition(":")
    values = (f"--set=image.repository={repository}", f"--set=image.tag={tag}", f"--set=redis.image={REDIS_IMAGE}",
              f"--set=insecureRegistries={{{REGISTRY}}}")  # fmt: skip
    # Whatever the chart makes has to meet the strictest standard.
    cluster.apply(namespace(SYSTEM))
    found = Release(cluster.within(SYSTEM), values)
    found.upgrade()
    yield found
    ready_operator(found.kubectl)
    logs = found.logs()
    found.helm("uninstall", RELEASE, "--wait")
    cluster.run("delete", "namespace", SYSTEM, "--wait=false")
    # Least privilege must still be enough, and nothing may have gone wrong unnoticed.
    assert "forbidden" not in logs.lower()
    assert "defect while reconciling" not in logs


@pytest.fixture
def kubectl(cluster: Kubectl, release: Release) -> Iterator[Kubectl]:
    """In a fresh namespace that admits *restricted* pods only."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    cluster.apply(namespace(name))
    found = cluster.within(name)
    found.config_map("counter", "component.wasm", guest("kv-g4"))
    yield found
    found.run("delete", "workers", "--all", "--wait=false")
    cluster.run("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def redis_keys(release: Release) -> Callable[..., list[str]]:
    """Asks the bundled Redis for the keys of a pattern, in one of its databases."""

    def keys(pattern: str, database: int = 0) -> list[str]:
        command = ["redis-cli", "-n", str(database), "--scan", "--pattern", pattern]
        return release.kubectl.run("exec", f"{RELEASE}-redis-0", "--", *command).split()

    return keys


@pytest.fixture
def offer(kubectl: Kubectl, cluster: Kubectl) -> Iterator[Callable[..., str]]:
    """Makes a KeyValueProvider for this test's namespace; gone afterwards, and the Workers before it."""
    made: list[str] = []

    def make(kind: str, **spec: Any) -> str:
        name = f"{kind}-{kubectl.namespace}"
        cluster.apply(provider(name, allowedNamespaces=[kubectl.namespace], **spec))
        made.append(name)
        return name

    yield make
    kubectl.run("delete", "workers", "--all", seconds=180)
    for name in made:
        cluster.run("delete", "kvp", name)


def default_url(cluster: Kubectl) -> str:
    found = cluster.get("kvp", "default") or {}
    return str(found["spec"]["redis"]["url"])


def namespace(name: str) -> dict[str, object]:
    """One that admits *restricted* pods only."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def ready_operator(kubectl: Kubectl) -> None:
    """Wait until exactly the wanted operators run."""

    def done() -> bool:
        found = kubectl.get("deployment", f"{RELEASE}-operator") or {}
        status, wanted = found.get("status", {}), found["spec"]["replicas"]
        counts = {status.get(kind, 0) for kind in ("updatedReplicas", "readyReplicas", "replicas")}
        return counts == {wanted}

    eventually(done, "the operator's Deployment settles", 90)
