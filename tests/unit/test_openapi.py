"""The OpenAPI document: valid, complete, and made of the component's own types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from perdure.component.about import about_component
from perdure.errors import PerdureError
from perdure.host.http.openapi import openapi
from support.hosts import EXAMPLE

RICH = Path(__file__).parents[1] / "component" / "worlds" / "rich.wasm"
PREFIX = "/v1/instances/{instance}/functions/"


def document(path: Path) -> Any:
    about = about_component(path.read_bytes())
    return openapi(about.world, title="shop", version=about.digest)


@pytest.mark.parametrize("path", [EXAMPLE, RICH], ids=lambda path: path.stem)
def test_it_is_openapi_3_1(path: Path) -> None:
    made = document(path)
    OpenAPIV31SpecValidator(made).validate()
    # Negative control: the validator looks into the operations.
    del made["components"]["responses"]["problem-400"]["description"]
    assert not OpenAPIV31SpecValidator(made).is_valid()


def test_each_callable_function_has_a_path() -> None:
    assert list(document(EXAMPLE)["paths"]) == [
        PREFIX + f"golem:examples/api.{name}" for name in ("get", "set", "calls")
    ]
    # Of the others each takes or gives a handle.
    assert list(document(RICH)["paths"]) == [
        PREFIX + path for path in ("perdure:worlds/gallery@1.2.3.interface", "little.today", "measure")
    ]


def test_an_operation_says_what_goes_in_and_what_comes_out() -> None:
    made = document(EXAMPLE)
    path = made["paths"][PREFIX + "golem:examples/api.get"]
    assert path["parameters"] == [{"$ref": "#/components/parameters/instance"}]
    post = path["post"]
    assert post["parameters"] == [{"$ref": "#/components/parameters/idempotencyKey"}]
    assert made["components"]["parameters"]["idempotencyKey"]["name"] == "Idempotency-Key"
    in_order, by_name = post["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert in_order["prefixItems"] == [{"type": "string"}] * 2 and by_name["required"] == ["bucket", "key"]
    assert post["requestBody"]["required"] is True
    assert made["paths"][PREFIX + "golem:examples/api.calls"]["post"]["requestBody"]["required"] is False
    assert post["summary"] == "get: func(bucket: string, key: string) -> option<list<u8>>"


def test_named_types_are_shared() -> None:
    made = document(RICH)
    schemas = made["components"]["schemas"]
    assert {"perdure.worlds.types.1.2.3.point", "perdure.worlds.types.1.2.3.shape", "local-thing", "Problem"} <= set(
        schemas
    )
    body = made["paths"][PREFIX + "measure"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["oneOf"][1]["properties"] == {
        "p": {"$ref": "#/components/schemas/perdure.worlds.types.1.2.3.point"},
        "q": {"$ref": "#/components/schemas/local-thing"},
    }


def test_every_error_of_a_call_is_there() -> None:
    """Errors that another command or no call meets are not."""
    made = document(EXAMPLE)
    told = " ".join(response["description"] for response in made["components"]["responses"].values())
    elsewhere = {
        "no-such-instance", "bad-manifest", "component-invalid", "component-unsupported", "snapshot-refused",
        "snapshot-unusable",
    }  # fmt: skip

    def codes(error: type[PerdureError]) -> set[str]:
        return {error.code}.union(*(codes(below) for below in error.__subclasses__()))

    assert {code for code in codes(PerdureError) if f"`{code}`" in told} == codes(PerdureError) - elsewhere
    statuses = set(made["paths"][PREFIX + "golem:examples/api.get"]["post"]["responses"])
    assert statuses == {"200", "400", "404", "409", "413", "422", "429", "500", "503", "504"}
    assert "Retry-After" in made["components"]["responses"]["problem-429"]["headers"]
    assert "headers" not in made["components"]["responses"]["problem-422"]
