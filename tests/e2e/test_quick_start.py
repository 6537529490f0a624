"""What the README promises of a cluster: install, apply, set, get, look."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from e2e.conftest import RELEASE, Release
from e2e.workers import worker
from perdure.cli.client import ApiError
from support.cluster.kubectl import CommandFailed, Kubectl, call, eventually

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "key-value"
BLUE = base64.b64encode(b"blue").decode()


def test_the_example_from_apply_to_get(kubectl: Kubectl) -> None:
    kubectl.config_map("key-value-component", "component.wasm", EXAMPLE / "key-value.wasm")
    kubectl.apply(yaml.safe_load((EXAMPLE / "worker.yaml").read_text()))
    found = kubectl.wait_ready("key-value")
    columns = kubectl.run("get", "wk", "key-value", "--no-headers").split()
    assert columns[:6] == ["key-value", "True", "Reconciled", "3", "3", "default"]

    service = kubectl.client("key-value")
    assert call(service, "alice", "set", "shop", "colour", BLUE, key="set-1") is None
    for pod in kubectl.hosts("key-value"):
        # Whichever pod is asked, the one that holds the instance answers.
        assert call(kubectl.pod_client(pod["metadata"]["name"]), "alice", "get", "shop", "colour") == BLUE
    assert call(service, "alice", "calls") == 4

    eventually(lambda: "exports" in (kubectl.get("worker", "key-value") or {})["status"]["component"], "exports", 60)
    found = kubectl.get("worker", "key-value") or {}
    status = found["status"]
    assert status["durability"] == "D2"
    assert status["url"] == f"http://key-value.{kubectl.namespace}.svc"
    assert "golem:examples/api.set" in status["component"]["exports"]
    assert status["observedGeneration"] == found["metadata"]["generation"]
    assert {c["type"] for c in status["conditions"]} == {
        "Ready", "ComponentResolved", "ProviderReady", "Available", "Progressing"
    }  # fmt: skip
    events = kubectl.list("event")
    assert any(e["reason"] == "Reconciled" and e["involvedObject"]["kind"] == "Worker" for e in events)


def test_the_charts_own_test(release: Release) -> None:
    out = release.helm("test", RELEASE, "--timeout=3m")
    assert "Phase:          Succeeded" in out, out


def test_metrics_agree_with_what_was_done(kubectl: Kubectl) -> None:
    kubectl.apply(worker())
    kubectl.wait_ready("counter")
    service = kubectl.client("counter")
    for number in range(12):
        call(service, f"instance-{number % 4}", "increment", "numbers", f"n{number % 4}", key=f"k{number}")
    with pytest.raises(ApiError):
        call(service, "instance-0", "no-such-function")
    totals = {"ok": 0.0, "commits": 0.0}
    for pod in kubectl.hosts("counter"):
        text = kubectl.pod_client(pod["metadata"]["name"], 9090).request("GET", "/metrics").decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "perdure_invocations_total" and sample.labels["outcome"] == "ok":
                    totals["ok"] += sample.value
                if sample.name == "perdure_commits_total" and sample.labels.get("outcome", "applied") == "applied":
                    totals["commits"] += sample.value
    assert totals["ok"] == 12
    assert totals["commits"] == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bucketz": []}, 'unknown field "spec.bucketz"'),
        ({"component": {"configMap": {"name": "a"}, "image": "b"}}, "give exactly one of image, url, configMap"),
        ({"component": {"url": "http://a/b.wasm"}}, "a url needs its sha256"),
        ({"replicas": -1}, "should be greater than or equal to 0"),
        ({"keyValue": {"buckets": [{"name": "a", "scope": "Galaxy"}]}}, 'supported values: "Worker", "Instance"'),
        ({"env": [{"name": "A"}]}, "give exactly one of value and valueFrom"),
    ],
)
def test_a_bad_manifest_is_refused_in_words(kubectl: Kubectl, change: dict[str, object], words: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        kubectl.apply(worker("bad", **change))
    assert words in str(refused.value)


def test_bad_input_over_http(kubectl: Kubectl) -> None:
    kubectl.apply(worker(replicas=1, limits={"maxBodyBytes": "2Ki"}))
    kubectl.wait_ready("counter")
    client = kubectl.client("counter", retries=3)
    for body, function, status, words in (
        (b"{not json", "get", 400, "JSON"),
        (b'["b", 7]', "get", 422, "key"),
        (b'["b"]', "get", 422, "key"),
        (b"[]", "fly", 404, "fly"),
        (b'["' + b"x" * 4096 + b'"]', "get", 413, "2,048 bytes"),
    ):
        with pytest.raises(ApiError) as refused:
            client.request("POST", f"/v1/instances/a/functions/{function}", body)
        assert refused.value.status == status, refused.value
        assert words in str(refused.value)
    assert call(client, "a", "increment", "b", "k") == {"ok": 1}
