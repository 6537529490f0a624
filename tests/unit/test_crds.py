"""The CRDs are the API's source of truth: every field described, and the typed models equal to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from perdure.manifests.load import _model_in
from perdure.manifests.provider import Etcd, KeyValueProviderSpec, Nats, Postgres, Probe, Redis
from perdure.manifests.worker import Durability, EnvVar, Limits, Retry, WorkerSpec

CRDS = Path(__file__).resolve().parents[2] / "crds"
FILES: dict[str, type[BaseModel]] = {"workers.yaml": WorkerSpec, "keyvalueproviders.yaml": KeyValueProviderSpec}


def schema(name: str) -> dict[str, Any]:
    document = yaml.safe_load((CRDS / name).read_text())
    found: dict[str, Any] = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(node.get(part), dict):
            yield from nodes(node[part], f"{path}[]")


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_described(name: str) -> None:
    """All but those of metadata, which Kubernetes describes (and forbids to describe here)."""
    found = [path for path, node in nodes(schema(name), "") if not node.get("description")]
    assert [path for path in found if not path.startswith(".metadata")] == []


@pytest.mark.parametrize("name", FILES)
def test_schemas_hold_known_keywords_only(name: str) -> None:
    """A comma in an unquoted description would silently become a keyword."""
    known = {"type", "description", "properties", "required", "items", "enum", "default", "pattern", "format"}
    known |= {
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "additionalProperties",
        "maxProperties",
    }
    for path, node in nodes(schema(name), ""):
        assert {key for key in node if not key.startswith("x-kubernetes-")} <= known, path


CHART = Path(__file__).resolve().parents[2] / "charts" / "perdure" / "files"


@pytest.mark.parametrize("name", FILES)
def test_the_chart_carries_the_same_definitions(name: str) -> None:
    assert (CHART / "crds" / name).read_bytes() == (CRDS / name).read_bytes(), "run `make chart`"


def test_the_chart_tests_with_the_example() -> None:
    example = CRDS.parent / "examples" / "key-value" / "key-value.wasm"
    assert (CHART / "key-value.wasm").read_bytes() == example.read_bytes(), "run `make chart`"


def compare(model: type[BaseModel], node: dict[str, Any], path: str) -> None:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert set(fields) == set(node.get("properties", {})), path
    required = {name for name, field in fields.items() if field.is_required()}
    assert required == set(node.get("required", [])), path
    for name, field in fields.items():
        child = node["properties"][name]
        inner = _model_in(field.annotation)
        if inner is not None:
            compare(inner, child.get("items", child), f"{path}.{name}")
        if get_origin(field.annotation) is Literal:
            assert list(get_args(field.annotation)) == child["enum"], f"{path}.{name}"


@pytest.mark.parametrize("name", FILES)
def test_models_and_crds_have_the_same_fields(name: str) -> None:
    compare(FILES[name], schema(name)["properties"]["spec"], "spec")


def defaults(node: dict[str, Any]) -> dict[str, Any]:
    """What the API server fills in of an empty object."""
    return {name: child["default"] for name, child in node.get("properties", {}).items() if "default" in child}


def test_models_and_crds_have_the_same_defaults() -> None:
    """The host must not run by other numbers than `kubectl get -o yaml` shows."""
    spec = schema("workers.yaml")["properties"]["spec"]["properties"]
    of_workers: list[tuple[str, type[BaseModel]]] = [("durability", Durability), ("retry", Retry), ("limits", Limits)]
    for name, model in of_workers:
        filled = defaults(spec[name])
        assert set(filled) == {field.alias for field in model.model_fields.values()}, name
        assert model.model_validate(filled) == model(), name
    assert spec["update"]["default"] == WorkerSpec.model_fields["update"].default
    provider = schema("keyvalueproviders.yaml")["properties"]["spec"]["properties"]
    of_providers: list[tuple[str, type[BaseModel], dict[str, object]]] = [
        ("redis", Redis, {"url": "redis://h"}),
        ("postgres", Postgres, {"url": "postgres://h/d"}),
        ("nats", Nats, {"servers": ["nats://h:4222"]}),
        ("etcd", Etcd, {"endpoints": ["http://h:2379"]}),
        ("probe", Probe, {}),
    ]
    for name, model, given in of_providers:
        assert model.model_validate({**given, **defaults(provider[name])}) == model.model_validate(given), name


@pytest.mark.parametrize("name", FILES)
def test_the_examples_in_patterns_hold(name: str) -> None:
    """A default that its own pattern refuses would make every object invalid."""
    for path, node in nodes(schema(name), ""):
        if "pattern" in node and isinstance(node.get("default"), str):
            assert re.search(node["pattern"], node["default"]), path


def test_variables_are_refused_as_the_models_refuse_them() -> None:
    env = schema("workers.yaml")["properties"]["spec"]["properties"]["env"]
    assert (env["x-kubernetes-list-type"], env["x-kubernetes-list-map-keys"]) == ("map", ["name"])
    fields = env["items"]["properties"]
    for name, value in (("A", "a\0b"), ("A\0", "a"), ("A=", "a"), ("A", "a = \nb"), ("a.b", "")):
        by_schema = all(re.search(fields[field]["pattern"], text) for field, text in (("name", name), ("value", value)))
        try:
            EnvVar(name=name, value=value)
        except ValidationError:
            assert not by_schema, (name, value)
        else:
            assert by_schema, (name, value)
