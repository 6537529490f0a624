"""Where components come from in these tests: a registry with a login and a web server, as pods of the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from e2e.conftest import ARTIFACTS, IMAGE, REGISTRY, REGISTRY_IMAGE, namespace
from e2e.workers import restricted_pod, service_of
from support.artifacts import Artifact, Pusher
from support.cluster.kubectl import Kubectl, forwarded
from support.guests import guest

USER, PASSWORD = "tester", "open-sesame"
# bcrypt of the password, at the least cost.
_HTPASSWD = f"{USER}:$2b$04$perdureEndToEndTests2uC5mTRM59Rd.7gPxU7C2NLNCEh1V0hma\n"
_CONFIG = {
    "version": 0.1,
    "log": {"level": "warn"},
    "storage": {"filesystem": {"rootdirectory": "/var/lib/registry"}},
    "http": {"addr": ":5000", "relativeurls": True},
    "auth": {"htpasswd": {"realm": "tests", "path": "/etc/registry/htpasswd"}},
}


@dataclass(frozen=True)
class Artifacts:
    """`web`: the URL of the guest kv-g4 as `counter.wasm`. Images are `<REGISTRY>/<repository>:<tag>`."""

    pusher: Pusher
    web: str = f"http://web.{ARTIFACTS}.svc/counter.wasm"

    def push(self, repository: str, tag: str, name: str) -> Artifact:
        """A guest by its name."""
        return self.pusher.push(repository, tag, guest(name).read_bytes())

    def login(self, kubectl: Kubectl, name: str) -> None:
        """A pull secret."""
        kubectl.run("create", "secret", "docker-registry", name, f"--docker-server={REGISTRY}",
                    f"--docker-username={USER}", f"--docker-password={PASSWORD}")  # fmt: skip


@contextlib.contextmanager
def artifact_servers(cluster: Kubectl) -> Iterator[Artifacts]:
    """In a namespace of their own, *restricted*, gone afterwards."""
    cluster.apply(namespace(ARTIFACTS))
    kubectl = cluster.within(ARTIFACTS)
    try:
        kubectl.config_map("counter", "counter.wasm", guest("kv-g4"))
        kubectl.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "registry"},
             "data": {"config.yml": yaml.safe_dump(_CONFIG), "htpasswd": _HTPASSWD}},
            _registry(), service_of("registry", 5000, 5000), _web(), service_of("web", 80, 8000),
        )  # fmt: skip
        kubectl.run("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
        with forwarded(kubectl, "service/registry", 5000) as address:
            yield Artifacts(Pusher(address, USER, PASSWORD))
    finally:
        cluster.run("delete", "namespace", ARTIFACTS, "--wait=false")


def _registry() -> dict[str, object]:
    container = {
        "name": "registry",
        "image": REGISTRY_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "OTEL_TRACES_EXPORTER", "value": "none"}],
        "command": ["registry", "serve", "/etc/registry/config.yml"],
        "readinessProbe": {"tcpSocket": {"port": 5000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/registry"},
                         {"name": "data", "mountPath": "/var/lib/registry"}],
    }  # fmt: skip
    volumes: list[dict[str, object]] = [
        {"name": "config", "configMap": {"name": "registry"}},
        {"name": "data", "emptyDir": {}},
    ]
    return restricted_pod("registry", container, volumes=volumes)


def _web() -> dict[str, object]:
    container = {
        "name": "web",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "http.server", "8000", "--directory", "/www"],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "www", "mountPath": "/www"}],
    }
    return restricted_pod("web", container, volumes=[{"name": "www", "configMap": {"name": "counter"}}])
