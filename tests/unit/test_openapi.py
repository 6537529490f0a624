"""The OpenAPI document: valid, complete, and made of the component's own types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from perdure.component.about import about_component
from perdure.durable.control import Verb
from perdure.errors import PerdureError
from perdure.host.http.buckets import BucketRoutes
from perdure.host.http.calls import CallRoutes
from perdure.host.http.instances import InstanceRoutes
from perdure.host.http.invocations import InvocationRoutes
from perdure.host.http.journal import JournalRoutes
from perdure.host.http.openapi import openapi
from perdure.host.http.promises import PromiseRoutes
from perdure.host.http.worker import WorkerRoutes
from support.hosts import EXAMPLE

RICH = Path(__file__).parents[1] / "component" / "worlds" / "rich.wasm"
SUBJECTS = (BucketRoutes, CallRoutes, InstanceRoutes, InvocationRoutes, JournalRoutes, PromiseRoutes, WorkerRoutes)
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


def functions(path: Path) -> list[str]:
    return [name for name in document(path)["paths"] if name.startswith(PREFIX)]


def test_each_callable_function_has_a_path() -> None:
    assert functions(EXAMPLE) == [PREFIX + f"golem:examples/api.{name}" for name in ("get", "set", "calls")]
    # Of the others each takes or gives a handle.
    assert functions(RICH) == [
        PREFIX + path for path in ("perdure:worlds/gallery@1.2.3.interface", "little.today", "measure")
    ]


def test_an_operation_says_what_goes_in_and_what_comes_out() -> None:
    made = document(EXAMPLE)
    path = made["paths"][PREFIX + "golem:examples/api.get"]
    assert path["parameters"] == [{"$ref": "#/components/parameters/instance"}]
    post = path["post"]
    names = ("idempotencyKey", "prefer", "scheduleAt")
    assert post["parameters"] == [{"$ref": f"#/components/parameters/{name}"} for name in names]
    assert post["responses"]["202"]["headers"].keys() == {"Location", "Preference-Applied", "Idempotency-Replayed"}
    assert made["components"]["parameters"]["idempotencyKey"]["name"] == "Idempotency-Key"
    in_order, by_name = post["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert in_order["prefixItems"] == [{"type": "string"}] * 2
    assert by_name == {"$ref": "#/components/schemas/golem.examples.api.get.arguments"}
    assert made["components"]["schemas"]["golem.examples.api.get.arguments"]["required"] == ["bucket", "key"]
    assert post["requestBody"]["required"] is True
    assert post["requestBody"]["content"].keys() == {"application/json", "application/cbor"}
    assert post["responses"]["200"]["content"].keys() == {"application/json", "application/cbor"}
    assert "requestBody" not in made["paths"][PREFIX + "golem:examples/api.calls"]["post"]
    assert post["summary"] == "get: func(bucket: string, key: string) -> option<list<u8>>"


def test_named_types_are_shared() -> None:
    made = document(RICH)
    schemas = made["components"]["schemas"]
    assert {"perdure.worlds.types.1.2.3.point", "perdure.worlds.types.1.2.3.shape", "local-thing", "Problem"} <= set(
        schemas
    )
    assert schemas["measure.arguments"]["properties"] == {
        "p": {"$ref": "#/components/schemas/perdure.worlds.types.1.2.3.point"},
        "q": {"$ref": "#/components/schemas/local-thing"},
    }


def test_every_error_of_a_call_is_there() -> None:
    """Errors that another command or no call meets are not."""
    made = document(EXAMPLE)
    told = " ".join(response["description"] for response in made["components"]["responses"].values())
    elsewhere = {
        "no-such-instance", "bad-manifest", "component-invalid", "component-unsupported", "snapshot-refused",
        "snapshot-unusable", "cancelled", "not-cancellable", "no-such-invocation", "no-such-promise", "promise-completed",
        "no-such-bucket", "no-such-key", "access-denied", "bucket-full", "precondition-failed",
    }  # fmt: skip

    def codes(error: type[PerdureError]) -> set[str]:
        return {error.code}.union(*(codes(below) for below in error.__subclasses__()))

    assert {code for code in codes(PerdureError) if f"`{code}`" in told} == codes(PerdureError) - elsewhere
    statuses = set(made["paths"][PREFIX + "golem:examples/api.get"]["post"]["responses"])
    assert statuses == {"200", "202", "400", "404", "406", "409", "413", "415", "422", "429", "500", "503", "504"}
    assert "Retry-After" in made["components"]["responses"]["problem-429"]["headers"]
    assert "headers" not in made["components"]["responses"]["problem-422"]


def test_what_every_worker_has_is_there() -> None:
    """Each route of the application but the document itself has a path, and each path a route."""
    made = document(EXAMPLE)
    found = {
        (method.upper(), path)
        for path, methods in made["paths"].items()
        for method in methods
        if method != "parameters" and not path.startswith(PREFIX)
    }
    served = set()
    for subject in SUBJECTS:
        for route in subject.routes(subject.__new__(subject)):  # type: ignore[arg-type]
            for verb in Verb if "{verb:" in route.path else [""]:
                path = re.sub(r"\{verb:[^}]*\}", verb, route.path)
                served.add((route.method, re.sub(r"\{(key|bucket|instance):[^}]*\}", r"{\1}", path)))
    served -= {("GET", "/openapi.json"), ("POST", PREFIX + "{function:.+}")}
    assert found == served
    told = str(made["paths"]["/v1/instances/{instance}/invocations/{key}"])
    assert "`no-such-invocation`" in told and "`not-cancellable`" in told
