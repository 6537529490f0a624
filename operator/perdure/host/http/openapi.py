"""The document of `GET /openapi.json`: a path for each exported function, from the component's own types. Pure.

A function that takes or gives a handle cannot be called from outside and has no path.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from perdure import errors
from perdure.component.interfaces import Function, Interface, World
from perdure.component.types import FuncType
from perdure.component.wit_json import Json
from perdure.component.wit_schema import Schema, Schemas, has_handles
from perdure.component.wit_world import function_text
from perdure.host.http.problems import CONTENT_TYPE
from perdure.host.http.requests import MAX_KEY, MAX_NAME

_ERRORS: tuple[type[errors.PerdureError], ...] = (
    errors.BadRequest,
    errors.NoSuchFunction,
    errors.IdempotencyConflict,
    errors.TooLarge,
    errors.TypeMismatch,
    errors.Overloaded,
    errors.GuestTrapped,
    errors.InternalError,
    errors.Quarantined,
    errors.ProviderUnavailable,
    errors.Fenced,
    errors.InvocationTimeout,
)
"""What a call can end with."""


def openapi(world: World, *, title: str, version: str) -> dict[str, Json]:
    """OpenAPI 3.1. `version`: what names this very component, its digest."""
    schemas = Schemas(world, "#/components/schemas/")
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
        "paths": paths,
        "components": {
            "schemas": {**schemas.definitions, "Problem": _PROBLEM},
            "parameters": _PARAMETERS,
            "responses": {_name(status): response for status, response in _problem_responses().items()},
        },
    }


def _operation(world: World, interface: Interface, func: Function, t: FuncType, schemas: Schemas) -> dict[str, Json]:
    described: Schema = {"description": func.docs} if func.docs else {}
    return {
        "operationId": interface.path_of(func),
        "tags": [interface.name or "world"],
        "summary": f"{func.name}: {function_text(world, interface, func)}",
        **described,
        "parameters": [{"$ref": "#/components/parameters/idempotencyKey"}],
        "requestBody": {
            "description": "the arguments, in order or by name",
            "required": bool(t.params),
            "content": {"application/json": {"schema": schemas.arguments(t)}},
        },
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
                "content": {"application/json": {"schema": schemas.result(t)}},
            },
            **{str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in _problem_responses()},
        },
    }


def _problem_responses() -> dict[int, Json]:
    """By HTTP status, with the codes that come under it and what each means."""
    by_status: dict[int, list[type[errors.PerdureError]]] = {}
    for error in _ERRORS:
        by_status.setdefault(error.http_status, []).append(error)
    return {status: _response(found) for status, found in sorted(by_status.items())}


def _response(found: list[type[errors.PerdureError]]) -> Json:
    meanings = [f"`{error.code}`: {(error.__doc__ or '').strip().splitlines()[0]}" for error in found]
    retries: Mapping[str, Json] = {
        "Retry-After": {"description": "seconds to wait before the same request", "schema": {"type": "integer"}}
    }
    waits: Schema = {"headers": dict(retries)} if any(error.retryable for error in found) else {}
    schema: Json = {"$ref": "#/components/schemas/Problem"}
    return {"description": "\n\n".join(meanings), **waits, "content": {CONTENT_TYPE: {"schema": schema}}}


def _has_handles(t: FuncType) -> bool:
    return has_handles(t.result) or any(has_handles(kind) for _, kind in t.params)


def _name(status: int) -> str:
    return f"problem-{status}"


_PARAMETERS: dict[str, Json] = {
    "instance": {
        "name": "instance",
        "in": "path",
        "required": True,
        "description": "the instance's name; its first call creates it",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_NAME},
    },
    "idempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "a call under the same key is carried out once, however often it is sent",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    },
}

_PROBLEM: dict[str, Json] = {
    "title": "Problem",
    "description": "RFC 9457. Match on `code`, which is stable; `detail` is for people.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "retryable": {"type": "boolean"},
        "parameter": {"type": "string", "description": "type-mismatch: the path of the value, e.g. `items[3].name`"},
        "trap": {"type": "string", "description": "guest-trapped: a stable kind"},
        "frames": {"type": "array", "items": {"type": "string"}, "description": "guest-trapped: innermost first"},
        "stderr": {"type": "string", "description": "guest-trapped: the end of what the guest printed"},
    },
    "required": ["type", "title", "status", "code", "detail", "retryable"],
}
