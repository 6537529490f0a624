"""The document of `GET /openapi.json`: a path for each exported function, from the component's own types, and those
that every Worker has. Pure.

A function that takes or gives a handle cannot be called from outside and has no path.
"""

from __future__ import annotations

from urllib.parse import quote

from perdure import errors
from perdure.component.interfaces import Function, Interface, World
from perdure.component.types import FuncType
from perdure.component.wit_json import Json
from perdure.component.wit_schema import Schema, Schemas, has_handles, identifier
from perdure.component.wit_world import function_text
from perdure.host.http.openapi_parts import ACCEPTED, CBOR, PARAMETERS, PROBLEM, SCHEMAS, problem_responses
from perdure.host.http.openapi_worker import worker_paths

_ERRORS: tuple[type[errors.PerdureError], ...] = (
    errors.BadRequest,
    errors.NoSuchFunction,
    errors.IdempotencyConflict,
    errors.NotAcceptable,
    errors.TooLarge,
    errors.UnsupportedMediaType,
    errors.TypeMismatch,
    errors.Overloaded,
    errors.GuestTrapped,
    errors.AsyncCallFailed,
    errors.InternalError,
    errors.Quarantined,
    errors.Interrupted,
    errors.ProviderUnavailable,
    errors.LostWrites,
    errors.FeedFull,
    errors.Fenced,
    errors.Overtaken,
    errors.Suspended,
    errors.InvocationTimeout,
)
"""What a call can end with."""


def openapi(world: World, *, title: str, version: str) -> dict[str, Json]:
    """OpenAPI 3.1. `version`: what names this very component, its digest."""
    schemas = Schemas(world, "#/components/schemas/", taken=("Problem", *SCHEMAS))
    paths: dict[str, Json] = {}
    for interface, func in world.exported_functions():
        if func.type is not None and not _has_handles(func.type):
            path = quote(interface.path_of(func), safe=":/@.")
            paths[f"/v1/instances/{{instance}}/functions/{path}"] = {
                "parameters": [{"$ref": "#/components/parameters/instance"}],
                "post": _operation(world, interface, func, func.type, schemas),
            }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "description": world.docs or "Functions of a durable worker. Each call is carried out in one commit.",
        },
        "paths": {**paths, **worker_paths()},
        "components": {
            "schemas": {**schemas.definitions, "Problem": PROBLEM, **SCHEMAS},
            "parameters": PARAMETERS,
            "responses": {_name(status): response for status, response in problem_responses(_ERRORS).items()},
        },
    }


def _operation(world: World, interface: Interface, func: Function, t: FuncType, schemas: Schemas) -> dict[str, Json]:
    described: Schema = {"description": func.docs} if func.docs else {}
    return {
        "operationId": identifier(interface.path_of(func)),
        "tags": [interface.name or "world"],
        "summary": f"{func.name}: {function_text(world, interface, func)}",
        **described,
        "parameters": [
            {"$ref": f"#/components/parameters/{name}"} for name in ("idempotencyKey", "prefer", "scheduleAt")
        ],
        **(_body(schemas.named_arguments(interface.path_of(func), t)) if t.params else {}),
        "responses": {
            "200": {
                "description": "the result",
                "headers": {
                    "Perdure-Host": {"description": "who carried it out", "schema": {"type": "string"}},
                    "Idempotency-Replayed": {
                        "description": "`true`: the stored result of an earlier call under the same key",
                        "schema": {"type": "string", "const": "true"},
                    },
                },
                "content": {"application/json": {"schema": schemas.result(t)}, **CBOR},
            },
            "202": ACCEPTED,
            **{
                str(status): {"$ref": f"#/components/responses/{_name(status)}"}
                for status in problem_responses(_ERRORS)
            },
        },
    }


def _body(arguments: Schema) -> dict[str, Json]:
    return {
        "requestBody": {
            "description": "the arguments, in order or by name",
            "required": True,
            "content": {"application/json": {"schema": arguments}, **CBOR},
        }
    }


def _has_handles(t: FuncType) -> bool:
    return has_handles(t.result) or any(has_handles(kind) for _, kind in t.params)


def _name(status: int) -> str:
    return f"problem-{status}"
