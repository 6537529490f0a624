"""What the chart renders to. `helm template` needs no cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from perdure.manifests.load import load_manifests

CHART = Path(__file__).resolve().parents[2] / "charts" / "perdure"
Object = dict[str, Any]


def rendered(*values: str) -> dict[tuple[str, str], Object]:
    """Objects by kind and name."""
    command = ["helm", "template", "perdure", str(CHART), "--namespace=system", *values]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = [obj for obj in yaml.safe_load_all(done.stdout) if obj]
    assert len({(obj["kind"], obj["metadata"]["name"]) for obj in found}) == len(found)
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in found}


def pod(objects: dict[tuple[str, str], Object]) -> Object:
    spec: Object = objects["Deployment", "perdure-operator"]["spec"]["template"]["spec"]
    return spec


def test_one_operator_needs_nothing_of_a_second() -> None:
    objects = rendered()
    kinds = {kind for kind, _ in objects}
    assert not kinds & {"PodDisruptionBudget", "ServiceMonitor", "PrometheusRule"}
    assert ("NetworkPolicy", "perdure-operator") not in objects
    assert "affinity" not in pod(objects)


def test_two_operators_are_apart() -> None:
    objects = rendered("--set=replicaCount=2")
    budget = objects["PodDisruptionBudget", "perdure-operator"]["spec"]
    labels = objects["Deployment", "perdure-operator"]["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    (term,) = pod(objects)["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= labels.items()
    given = {"nodeAffinity": {"x": "y"}}
    assert pod(rendered("--set=replicaCount=2", f"--set-json=affinity={json.dumps(given)}"))["affinity"] == given


def test_monitoring_finds_what_there_is() -> None:
    objects = rendered("--set=monitoring.serviceMonitors=true,monitoring.rules=true,monitoring.labels.release=prom",
                       "--set=networkPolicy.enabled=true")  # fmt: skip
    monitor = objects["ServiceMonitor", "perdure-operator"]
    services = [obj for (kind, _), obj in objects.items() if kind == "Service"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [obj for obj in services if wanted <= obj["metadata"]["labels"].items()]
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]
    assert monitor["metadata"]["labels"]["release"] == "prom"
    assert objects["ServiceMonitor", "perdure-hosts"]["spec"]["namespaceSelector"] == {"any": True}
    rules = objects["PrometheusRule", "perdure"]["spec"]["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 7
    assert all(rule["expr"] and rule["labels"]["severity"] and rule["annotations"]["summary"] for rule in rules)
    assert any("{{ $labels.worker }}" in rule["annotations"]["summary"] for rule in rules)
    (rule,) = objects["NetworkPolicy", "perdure-operator"]["spec"]["ingress"]
    assert rule == {"ports": [{"port": "metrics"}]}


def test_what_the_probe_needs_arrives_in_its_provider() -> None:
    asked = {"nodeSelector": {"pool": "infra"}, "tolerations": [{"key": "infra", "operator": "Exists"}],
             "resources": {"limits": {"cpu": 1, "memory": "128Mi"}}}  # fmt: skip
    objects = rendered(f"--set-json=provider.probe.pod={json.dumps(asked)}", "--set=provider.probe.interval=1m")
    text = objects["ConfigMap", "perdure-bootstrap"]["data"]["providers.yaml"]
    (provider,) = load_manifests(text, source="chart").providers
    assert provider.spec.probe.interval == 60_000
    assert provider.spec.probe.pod.model_dump(by_alias=True, exclude_unset=True, mode="json") == asked


@pytest.mark.parametrize("value", ["provider.probe.pod.hostNetwork=true", "monitoring.x=1", "replicas=2"])
def test_a_value_that_there_is_not_is_refused(value: str) -> None:
    command = ["helm", "template", "perdure", str(CHART), f"--set={value}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "additional properties" in done.stderr.lower()
