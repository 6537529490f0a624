"""A broken Worker says what is wrong, and heals when the cause is mended."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from e2e.workers import provider, worker
from support.cluster.kubectl import CommandFailed, Kubectl, call, eventually
from support.guests import guest

GOOD = {"configMap": {"name": "counter"}}


def says(kubectl: Kubectl, name: str, kind: str, words: str) -> Callable[[], bool]:
    def check() -> bool:
        found, ready = kubectl.condition(name, kind), kubectl.condition(name)
        assert found.get("status") == "False", found
        assert words in found["message"], found
        # `Ready` repeats it, so that `kubectl get wk -o wide` is enough.
        assert ready["status"] == "False"
        assert words in ready["message"]
        return True

    return check


def test_a_missing_provider(kubectl: Kubectl, cluster: Kubectl) -> None:
    name = f"late-{kubectl.namespace}"
    kubectl.apply(worker(replicas=1, keyValue={"provider": name, "undeclaredBuckets": "Allow"}))
    words = f"KeyValueProvider {name} not found"
    eventually(says(kubectl, "counter", "ProviderReady", words), words)
    assert not kubectl.hosts("counter")
    default = cluster.get("kvp", "default") or {}
    cluster.apply(provider(name, redis=default["spec"]["redis"]))
    try:
        kubectl.wait_ready("counter")
        assert call(kubectl.client("counter"), "a", "increment", "b", "k") == {"ok": 1}
    finally:
        cluster.run("delete", "kvp", name)


def test_a_provider_that_does_not_allow_the_namespace(kubectl: Kubectl, cluster: Kubectl) -> None:
    name = f"closed-{kubectl.namespace}"
    cluster.apply(provider(name, memory={}, allowedNamespaces=["elsewhere"]))
    try:
        kubectl.apply(worker(replicas=1, keyValue={"provider": name}))
        words = f"does not allow namespace {kubectl.namespace}"
        eventually(says(kubectl, "counter", "ProviderReady", words), words)
        cluster.run("patch", "kvp", name, "--type=merge", "-p", '{"spec": {"allowedNamespaces": ["*"]}}')
        kubectl.wait_ready("counter")
    finally:
        cluster.run("delete", "kvp", name)


def test_a_provider_that_does_not_answer(kubectl: Kubectl, cluster: Kubectl) -> None:
    name = f"dead-{kubectl.namespace}"
    cluster.apply(provider(name, redis={"url": "redis://198.18.0.1:1/0", "timeout": "500ms"}))
    try:
        kubectl.apply(worker(replicas=1, keyValue={"provider": name}))
        eventually(says(kubectl, "counter", "ProviderReady", name), "the host's own words", 90)
    finally:
        cluster.run("delete", "kvp", name)


def test_a_wrong_digest(kubectl: Kubectl) -> None:
    kubectl.apply(worker(replicas=1, component={**GOOD, "sha256": "0" * 64}))
    words = "sha256:" + "0" * 64
    eventually(says(kubectl, "counter", "ComponentResolved", words), words)
    kubectl.apply(worker(replicas=1))
    kubectl.wait_ready("counter")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\0asm\x01\0\0\0", "core module"), (b"garbage", "is not WebAssembly")],
)
def test_what_is_not_a_component(
    kubectl: Kubectl, content: bytes, words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("component") / "x.wasm"
    file.write_bytes(content)
    kubectl.config_map("broken", "component.wasm", file)
    kubectl.apply(worker(replicas=1, component={"configMap": {"name": "broken"}}))
    eventually(says(kubectl, "counter", "ComponentResolved", words), words)
    # Mended by its content alone: the ConfigMap is watched.
    kubectl.config_map("broken", "component.wasm", guest("kv-g4"))
    kubectl.wait_ready("counter")
    assert call(kubectl.client("counter"), "a", "increment", "b", "k") == {"ok": 1}


def test_a_missing_config_map(kubectl: Kubectl) -> None:
    kubectl.apply(worker(replicas=1, component={"configMap": {"name": "later"}}))
    eventually(says(kubectl, "counter", "ComponentResolved", "ConfigMap later not found"), "ConfigMap later")
    kubectl.config_map("later", "component.wasm", guest("kv-g4"))
    kubectl.wait_ready("counter")


def test_a_missing_secret(kubectl: Kubectl) -> None:
    source = {"secretKeyRef": {"name": "later", "key": "token"}}
    kubectl.apply(worker(replicas=1, env=[{"name": "TOKEN", "valueFrom": source}]))
    eventually(says(kubectl, "counter", "ProviderReady", "Secret later not found"), "Secret later")
    kubectl.run("create", "secret", "generic", "later", "--from-literal=token=sesame")
    kubectl.wait_ready("counter")
    # Secrets never reach what is not secret.
    text = kubectl.run("get", "worker,configmap,deployment,pod,event", "-o", "yaml")
    logs = kubectl.run("logs", "-l", "perdure.dev/worker=counter", "--tail=-1")
    assert "sesame" not in text + logs


def test_what_hosts_would_wait_for_without_a_word(kubectl: Kubectl) -> None:
    """A ConfigMap and a claim that pods mount: the field that names each is told, and nothing is made before."""
    files = [{"mountPath": "/data", "configMap": {"name": "later"}}]
    mounted = {"name": "mine", "persistentVolumeClaim": {"claimName": "later-claim"}}
    kubectl.apply(worker(replicas=1, files=files, podTemplate={"spec": {"volumes": [mounted]}}))
    for words in ("ConfigMap later not found", "spec.files[0]", "PersistentVolumeClaim later-claim not found",
                  "spec.podTemplate.spec.volumes mine"):  # fmt: skip
        eventually(says(kubectl, "counter", "ProviderReady", words), words)
    assert kubectl.condition("counter")["reason"] == "ConfigMapNotFound"
    assert not kubectl.hosts("counter")
    kubectl.apply(worker(replicas=1, files=files))
    kubectl.run("create", "configmap", "later", "--from-literal=a.txt=here")
    kubectl.wait_ready("counter")


def test_a_quota_that_keeps_pods_from_being_made(kubectl: Kubectl) -> None:
    kubectl.run("create", "quota", "none", "--hard=pods=0")
    kubectl.apply(worker(replicas=1))
    eventually(says(kubectl, "counter", "Available", "exceeded quota: none"), "the quota is named")
    kubectl.run("delete", "quota", "none")
    # Its controller tries again at growing distances; a new configuration is tried at once.
    kubectl.apply(worker(replicas=1, config={"a": "b"}))
    kubectl.wait_ready("counter")


def test_a_pod_template_that_the_cluster_refuses(kubectl: Kubectl) -> None:
    template = {"spec": {"containers": [{"name": "host", "resources": {"requests": {"cpu": "a lot"}}}]}}
    kubectl.apply(worker(replicas=1, podTemplate=template))

    def told() -> bool:
        ready = kubectl.condition("counter")
        assert ready.get("reason") == "InvalidSpec", ready
        return "quantities" in ready["message"] or "cpu" in ready["message"]

    eventually(told, "the API server's refusal")
    kubectl.apply(worker(replicas=1, podTemplate={"metadata": {"labels": {"team": "a"}}}))
    kubectl.wait_ready("counter")
    assert [pod["metadata"]["labels"]["team"] for pod in kubectl.hosts("counter")] == ["a"]


def test_a_name_that_somebody_else_uses(kubectl: Kubectl) -> None:
    kubectl.run("create", "service", "clusterip", "counter", "--tcp=80:80")
    kubectl.apply(worker(replicas=1))

    def told() -> bool:
        return "Service counter exists and does not belong" in kubectl.condition("counter").get("message", "")

    eventually(told, "a foreign Service is left alone")
    kubectl.run("delete", "service", "counter")
    kubectl.wait_ready("counter")


def test_what_the_api_server_refuses_at_once(kubectl: Kubectl) -> None:
    """What no reconcile could bring about never becomes a Worker."""
    watched = {"name": "b", "scope": "Instance", "watch": {"instance": "w"}}
    refused: list[tuple[dict[str, object], str]] = [
        (worker("1st"), "metadata.name"),
        (worker("a.b"), "metadata.name"),
        (worker("a" * 53), "metadata.name"),
        (worker(component={}), "give exactly one of"),
        (worker(replicas=-1), "spec.replicas"),
        (worker(keyValue={"buckets": [watched]}), "cannot be watched"),
    ]
    for document, words in refused:
        with pytest.raises(CommandFailed, match=words):
            kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(document))
    kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(worker()))
    assert kubectl.list("worker") == []
