"""The chart's values: all of them are described, and what is not described is refused."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from perdure.manifests.probe_pod import ProbePod
from perdure.manifests.provider import Probe

CHART = Path(__file__).resolve().parents[2] / "charts" / "perdure"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def refusals(path: str, value: object) -> list[str]:
    """Of the default values with one changed."""
    values = copy.deepcopy(VALUES)
    *parents, last = path.split(".")
    node: Any = values
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def test_the_defaults_are_valid_and_described() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert refusals("logLevel", VALUES["logLevel"]) == []

    def described(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        if "properties" in schema:
            assert schema.get("additionalProperties") is False, path
            for name, value in values.items():
                assert name in schema["properties"], f"{path}.{name}"
                if isinstance(value, dict):
                    described(value, schema["properties"][name], f"{path}.{name}")

    described(VALUES, SCHEMA, "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("nodeSelector.pool", "infra"),
        ("topologySpreadConstraints", [{"maxSkew": 1}]),
        ("monitoring", {"serviceMonitors": True, "rules": True, "labels": {"release": "prometheus"}}),
        ("resources.limits.cpu", 0.5),
        ("provider.probe.interval", "1m"),
        ("provider.probe.pod.nodeSelector.pool", "infra"),
        ("provider.probe.pod.tolerations", [{"key": "infra", "operator": "Exists"}]),
        ("provider.probe.pod.resources", {"limits": {"cpu": 1, "memory": "1Gi"}}),
        ("provider.probe.pod.annotations", {"sidecar.istio.io/inject": "false"}),
    ],
)
def test_what_a_cluster_may_need(path: str, value: object) -> None:
    assert refusals(path, value) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("nodeselector", {"pool": "infra"}),
        ("nodeSelector.pool", True),
        ("resources.limit", {"cpu": 1}),
        ("tolerations", {"key": "infra"}),
        ("replicaCount", "2"),
        ("monitoring.interval", "often"),
        ("monitoring.serviceMonitor", True),
        ("networkPolicy.enabled", "yes"),
        ("logLevel", "loud"),
        ("provider.url", "redis://user:password@redis:6379/0"),
        ("provider.probe.pod.hostNetwork", True),
        ("provider.probe.pod.nodeSelector", "pool=infra"),
        ("provider.probe.pod.annotations.x", False),
        ("provider.probe.pod.resources.limits.cpu", 0.5),
    ],
)
def test_what_is_refused(path: str, value: object) -> None:
    assert refusals(path, value) != []


def test_a_probe_has_the_fields_of_its_manifest() -> None:
    schema = SCHEMA["properties"]["provider"]["properties"]["probe"]["properties"]
    assert set(schema) == {field.alias for field in Probe.model_fields.values()}
    assert set(schema["pod"]["properties"]) == {field.alias for field in ProbePod.model_fields.values()}


def test_alerts_stand_on_metrics_that_there_are() -> None:
    known = (CHART.parents[1] / "docs" / "metrics.md").read_text()
    rules = (CHART / "templates" / "monitoring.yaml").read_text()
    used = set(re.findall(r"perdure_[a-z_]+", rules)) - {"perdure_dev_worker"}
    assert len(used) >= 7
    assert [name for name in used if f"`{name}`" not in known] == []
