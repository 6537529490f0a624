"""What a KeyValueProvider's status says: found out by restricted Jobs that hold what the operator does not."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.conftest import REDIS_IMAGE, SYSTEM, Release
from e2e.workers import Object, provider, restricted_pod, service_of, worker
from support.cluster.kubectl import Kubectl, eventually

# What a production cluster may ask of the pods that look.
ASKED: Object = {
    "annotations": {"sidecar.istio.io/inject": "false"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "priorityClassName": "system-node-critical",
    "resources": {"requests": {"memory": "96Mi"}},
}


@dataclass
class Watched:
    """A provider, and when each of its probes had its outcome."""

    cluster: Kubectl
    name: str
    times: list[datetime.datetime] = field(default_factory=list)

    def status(self) -> Object:
        found: Object = (self.cluster.get("kvp", self.name) or {}).get("status") or {}
        if "lastProbeTime" in found:
            at = datetime.datetime.fromisoformat(found["lastProbeTime"])
            if at not in self.times:
                self.times.append(at)
        return found

    def condition(self) -> Object:
        found = [c for c in self.status().get("conditions", []) if c["type"] == "Reachable"]
        return found[0] if found else {}

    def comes(self, status: str, reason: str) -> Object:
        """Wait for it."""

        def there() -> bool:
            found = self.condition()
            return (found.get("status"), found.get("reason")) == (status, reason)

        eventually(there, lambda: f"{reason}: {self.status()}", 60)
        return self.condition()


def redis_pod(password: str) -> Object:
    options = ["--requirepass", password, "--dir", "/data", "--appendonly", "yes", "--appendfsync", "everysec"]
    container = {"name": "redis", "image": REDIS_IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["redis-server"],
                 "args": options, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}  # fmt: skip
    return restricted_pod("redis", container, volumes=[{"name": "data", "emptyDir": {}}])


def test_the_default_provider_is_reachable(release: Release, cluster: Kubectl) -> None:
    """From the operator's namespace, through the bundled Redis' network policy."""
    watched = Watched(cluster, "default")
    message = watched.comes("True", "Answers")["message"]
    status = watched.status()
    assert (status["durability"], status["guarantee"]) == ("D2", "exactly-once")
    assert status["server"]["settings"]["appendfsync"] == "always"
    events = cluster.run("describe", "kvp", "default").partition("Events:")[2]
    assert "perdure-operator" in events and "Reachable is True" in events
    assert status["server"]["version"] in message
    header, row = cluster.run("get", "kvp", "default").splitlines()
    assert header.split()[:5] == ["NAME", "KIND", "DEFAULT", "READY", "REACHABLE"]
    assert row.split()[:6] == ["default", "redis", "true", "True", "True", "D2"]
    for job in cluster.within(SYSTEM).list("job", "perdure.dev/probe"):
        assert job["status"].get("failed", 0) == 0


def test_a_store_that_refuses_goes_and_comes_back(kubectl: Kubectl, cluster: Kubectl) -> None:
    password, name = uuid.uuid4().hex, f"probed-{kubectl.namespace}"
    kubectl.secret("redis-auth", password="not-this-one")
    kubectl.apply(redis_pod(password), service_of("redis", 6379, 6379))
    kubectl.run("wait", "--for=condition=Ready", "pod/redis", "--timeout=60s")
    spec = {
        "redis": {
            "url": f"redis://redis.{kubectl.namespace}.svc:6379/0",
            "credentialsSecretRef": {"name": "redis-auth"},
            "timeout": "500ms",
        },
        "minDurability": "D2",
        "probe": {"interval": "10s", "namespace": kubectl.namespace, "pod": ASKED},
    }
    cluster.apply(provider(name, **spec))
    # No host of it says anything: the probe's word is all there is.
    kubectl.apply(worker(replicas=0, keyValue={"provider": name}))
    watched = Watched(cluster, name)
    try:
        assert "credentialsSecretRef" in watched.comes("False", "CredentialsRefused")["message"]
        check_job(kubectl)
        kubectl.secret("redis-auth", password=password)
        assert "durability D1" in watched.comes("True", "Answers")["message"]
        durable = next(c for c in watched.status()["conditions"] if c["type"] == "Durable")
        assert (durable["status"], durable["reason"]) == ("False", "WeakerThanDeclared")
        kubectl.run("delete", "pod", "redis", "--force", "--grace-period=0")
        message = watched.comes("False", "NoAnswer")["message"]
        assert f"redis.{kubectl.namespace}.svc:6379" in message and "network policies" in message
        eventually(lambda: kubectl.condition("counter", "ProviderReady").get("reason") == "ProviderUnavailable", "told")
        assert kubectl.condition("counter")["message"].startswith(f"KeyValueProvider {name}: Redis at")
        kubectl.apply(redis_pod(password))
        watched.comes("True", "Answers")
        eventually(lambda: kubectl.condition("counter", "ProviderReady").get("status") == "True", "it is back")
        text = cluster.run("get", "kvp", name, "-o", "yaml") + kubectl.run(
            "get", "job,pod,event", "-l", "app!=redis", "-o", "yaml"
        )
        assert password not in text and "not-this-one" not in text
        times = sorted(watched.times)
        gaps = [(later - before).total_seconds() for before, later in zip(times, times[1:], strict=False)]
        assert min(gaps) >= 4, "bounded in frequency, whatever happens"
        events = cluster.within("default").list("event")
        told = [event["reason"] for event in events if event["involvedObject"]["name"] == name]
        assert {"CredentialsRefused", "Answers", "NoAnswer", "WeakerThanDeclared"} <= set(told)
    finally:
        kubectl.run("delete", "worker", "counter")
        cluster.run("delete", "kvp", name)
    eventually(lambda: not kubectl.list("job"), "the Job goes with its provider", 30)


def check_job(kubectl: Kubectl) -> None:
    """The namespace admits *restricted* pods only, so that there was a pod says that it is one."""
    assert len(kubectl.list("job")) <= 1
    pods = kubectl.list("pod", "perdure.dev/probe")
    for pod in pods:
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert not any("projected" in volume for volume in spec["volumes"])
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"] == {
            "requests": {"cpu": "10m", "memory": "96Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        }
        assert spec["nodeSelector"] == ASKED["nodeSelector"] and spec["priorityClassName"] == "system-node-critical"
        assert {"key": "infra", "operator": "Exists"} in spec["tolerations"]
        assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
        assert pod["status"]["phase"] != "Failed", "a probe that found something wrong has done its work"
    assert len(pods) == 1, json.dumps(pods)


def test_a_provider_whose_secret_is_elsewhere(cluster: Kubectl, offer: Callable[..., str]) -> None:
    name = offer("elsewhere", redis={"url": "redis://redis:6379/0", "credentialsSecretRef": {"name": "nowhere"}})
    message = Watched(cluster, name).comes("Unknown", "SecretNotFound")["message"]
    assert f"Secret nowhere not found in namespace {SYSTEM}" in message
