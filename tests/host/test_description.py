"""What a host tells of its component: `GET /v1/component` and `GET /openapi.json`, and that calls keep to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from support.guests import guest
from support.hosts import Client, local_host

ECHO = "perdure:values/echo"
POINT = {"x": 1, "y": "NaN", "label": None}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with local_host(guest("values"), tmp_path) as (_, made):
        yield made


async def document(client: Client, path: str) -> Any:
    status, found = await client.get(path)
    assert status == 200
    return found


async def test_named_types_are_told(client: Client) -> None:
    found = await document(client, "/v1/component")
    export = next(one for one in found["exports"] if one["name"] == f"{ECHO}.via-point")
    structure = "record { x: s32, y: f64, label: option<string> }"
    assert export["signature"] == f"func(v: {structure}) -> {structure}"
    assert export["params"] == [{"name": "v", "type": structure}] and export["result"] == structure
    assert (export["interface"], export["function"], export["kind"]) == (ECHO, "via-point", "function")
    assert export["wit"] == "func(v: point) -> point"
    (world,) = found["world"]["exports"]
    point = next(one for one in world["types"] if one["name"] == "point")
    assert point["definition"] == "record point { x: s32, y: f64, label: option<string>, }"
    assert found["memory"]["initialBytes"] > 0 and found["toolchain"]["tools"] and found["notes"] == []


@pytest.mark.parametrize(
    ("function", "fits", "misfits"),
    [
        ("via-point", [POINT], [{**POINT, "x": 2**31}]),
        ("via-point", {"v": POINT}, {"w": POINT}),
        ("via-shape", [{"polygon": [POINT]}], [{"polygon": [{"x": 1}]}]),
        ("via-shape", ["empty"], [{"empty": None}]),
        ("via-colour", ["red"], ["purple"]),
        ("via-access", [["read", "share"]], [["reed"]]),
        ("via-bytes", ["AAE="], ["AAE"]),
        ("via-bytes", [[0, 255]], [[256]]),
        ("via-option", [{"some": None}], [{"none": 1}]),
        ("via-result", [{"err": "red"}], [{"ok": "a", "err": "red"}]),
        ("via-tuple", [[1, "a", 0.5]], [[1, "a"]]),
        ("via-u64", [2**64 - 1], [2**64]),
        ("via-char", ["🔑"], ["ab"]),
    ],
)
async def test_calls_keep_to_the_document(client: Client, function: str, fits: object, misfits: object) -> None:
    openapi = await document(client, "/openapi.json")
    post = openapi["paths"][f"/v1/instances/{{instance}}/functions/{ECHO}.{function}"]["post"]

    def check(schema: dict[str, object], value: object) -> bool:
        return Draft202012Validator({**schema, "components": openapi["components"]}).is_valid(value)

    body = post["requestBody"]["content"]["application/json"]["schema"]
    assert check(body, fits) and not check(body, misfits)
    path = f"{client.url}/v1/instances/demo/functions/{ECHO}.{function}"
    async with client.session.post(path, json=fits) as reply:
        answer = await reply.json()
    assert reply.status == 200
    assert check(post["responses"]["200"]["content"]["application/json"]["schema"], answer)
    async with client.session.post(path, json=misfits) as reply:
        problem = await reply.json(content_type=None)
    response = openapi["components"]["responses"][post["responses"][str(reply.status)]["$ref"].rpartition("/")[2]]
    assert reply.status == 422 and f"`{problem['code']}`" in response["description"]
    assert check(response["content"]["application/problem+json"]["schema"], problem)


async def test_the_document_is_openapi(client: Client) -> None:
    found = await document(client, "/openapi.json")
    OpenAPIV31SpecValidator(found).validate()
    component = await document(client, "/v1/component")
    functions = [path for path in found["paths"] if "/functions/" in path]
    assert len(functions) == len(component["exports"])
    assert found["info"]["version"] == component["digest"]
