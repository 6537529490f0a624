"""Errors as RFC 9457 problem documents, with the stable `code` that clients match on."""

from __future__ import annotations

import json
import math

from aiohttp import web

from perdure.errors import (
    AsyncCallFailed,
    GuestTrapped,
    HostLeaving,
    InvocationTimeout,
    Overloaded,
    PerdureError,
    ProviderUnavailable,
    TypeMismatch,
)
from perdure.host.peers import LEAVING

CONTENT_TYPE = "application/problem+json"


def problem(error: PerdureError) -> web.Response:
    """The response for one of our own errors."""
    document: dict[str, object] = {
        "type": f"https://perdure.dev/errors/{error.code}",
        "title": error.code.replace("-", " ").capitalize(),
        "status": error.http_status,
        "code": error.code,
        "detail": error.detail,
        "retryable": error.retryable,
    }
    if isinstance(error, TypeMismatch):
        document["parameter"] = error.parameter
    if isinstance(error, GuestTrapped):
        document |= {"trap": error.trap, "frames": list(error.frames), "stderr": error.stderr}
    if isinstance(error, (GuestTrapped, InvocationTimeout)) and error.parts:
        document["parts"] = error.parts
    headers = {}
    if isinstance(error, AsyncCallFailed):
        document["cause"] = error.cause
        headers["Idempotency-Replayed"] = "true"
    if isinstance(error, (Overloaded, ProviderUnavailable)) and error.retryable:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif error.retryable and error.http_status == 503:
        headers["Retry-After"] = "1"
    if isinstance(error, HostLeaving):
        headers[LEAVING] = "true"
    return web.Response(
        body=json.dumps(document).encode(),
        status=error.http_status,
        content_type=CONTENT_TYPE,
        headers=headers,
    )


def plain_problem(status: int, code: str, detail: str, *, allow: str | None = None) -> web.Response:
    """A problem document for an error that HTTP itself defines (404, 405, …). `allow`: the methods that there are."""
    document = {"type": f"https://perdure.dev/errors/{code}", "title": code.replace("-", " ").capitalize()}
    body = json.dumps({**document, "status": status, "code": code, "detail": detail, "retryable": False})
    headers = {} if allow is None else {"Allow": allow}
    return web.Response(body=body.encode(), status=status, content_type=CONTENT_TYPE, headers=headers)
