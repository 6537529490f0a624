"""wasi:http/incoming-handler: a request as the canonical arguments of an invocation, its response as the result.

Both are JSON like those of any other call: an array of one object `{"method", "scheme", "authority", "path",
"headers": [[name, value]], "body"}`, and an object `{"status", "headers", "body"}`. Field values are text in Latin-1,
bodies base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass

import msgspec

from perdure.component.plan import ExportedFunc
from perdure.component.types import Variant
from perdure.errors import GuestTrapped, TypeMismatch
from perdure.wasi.http.bodies import Held, IncomingBody
from perdure.wasi.http.fields import Fields
from perdure.wasi.http.incoming import IncomingRequest, ResponseOutparam
from perdure.wasi.http.messages import AUTHORITY, FORBIDDEN, MAX_FIELDS, PATH, TOKEN, VALUE, visible
from perdure.wasi.http.outgoing import OutgoingResponse

HANDLER = "wasi:http/incoming-handler@0.2."
"""How the path of the export begins."""
_HANDLER = re.compile(r"wasi:http/incoming-handler@0\.2\.\d+(?:-.*)?")


class ServedRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request as the journal keeps it."""

    method: str = "GET"
    scheme: str = "http"
    authority: str = ""
    path: str = "/"
    headers: list[tuple[str, str]] = []
    body: str = ""


class ServedResponse(msgspec.Struct, frozen=True):
    """The stored result."""

    status: int
    headers: list[tuple[str, str]]
    body: str


@dataclass(frozen=True, slots=True)
class Served:
    """One request on its way through the guest: `arguments` of the export, and where the answer will be."""

    arguments: tuple[IncomingRequest, ResponseOutparam]

    def result(self) -> bytes:
        """As JSON. Raises `GuestTrapped` where the guest has left without an answer."""
        outparam = self.arguments[1]
        response = outparam.response
        if response is None:
            raise GuestTrapped("the guest returned from incoming-handler without a response", trap="no-response")
        if isinstance(response, Variant):
            return _error(response)
        return _whole(response)


def is_handler(func: ExportedFunc) -> bool:
    """Whether the function is `handle` of an exported wasi:http/incoming-handler."""
    return func.name == "handle" and _HANDLER.fullmatch(func.interface) is not None


def canonical_request(request: ServedRequest) -> bytes:
    """The arguments of the invocation. Raises `TypeMismatch` naming what is wrong."""
    if not TOKEN.fullmatch(request.method):
        raise TypeMismatch("the method is not a token", parameter="request.method")
    if request.scheme not in ("http", "https"):
        raise TypeMismatch("the scheme must be http or https", parameter="request.scheme")
    if request.authority and not AUTHORITY.fullmatch(request.authority):
        raise TypeMismatch("the authority is not a host with or without a port", parameter="request.authority")
    if not PATH.fullmatch(request.path):
        raise TypeMismatch("the path must begin with / and have visible ASCII characters", parameter="request.path")
    size = 0
    for name, value in request.headers:
        data = value.encode("latin-1", "replace")
        if not TOKEN.fullmatch(name) or not VALUE.fullmatch(data) or data.decode("latin-1") != value:
            raise TypeMismatch("a field is not well formed", parameter="request.headers")
        if name.lower() in FORBIDDEN:
            raise TypeMismatch(f"{name} belongs to the connection", parameter="request.headers")
        size += len(name) + len(value)
    if size > MAX_FIELDS:
        raise TypeMismatch(f"the fields have more than {MAX_FIELDS:,} bytes", parameter="request.headers")
    try:
        base64.b64decode(request.body, validate=True)
    except (binascii.Error, ValueError):
        raise TypeMismatch("the body is not base64", parameter="request.body") from None
    return json.dumps([msgspec.to_builtins(request)], ensure_ascii=False, separators=(",", ":")).encode()


def parse_request(document: object) -> ServedRequest:
    """Of `[{…}]`, or of `{"request": {…}}`. Raises `TypeMismatch`."""
    if isinstance(document, dict) and set(document) == {"request"}:
        document = [document["request"]]
    if not isinstance(document, list) or len(document) != 1:
        raise TypeMismatch("the handler takes one argument: a request", parameter="request")
    try:
        return msgspec.convert(document[0], ServedRequest)
    except msgspec.ValidationError as error:
        raise TypeMismatch(str(error), parameter="request") from None


def identity(arguments: bytes) -> bytes:
    """What of a request an idempotency key is bound to: method, path and body. Its other fields may differ each time
    it is sent."""
    request = _decode(arguments)
    return json.dumps([request.method, request.path, request.body]).encode()


def serve(arguments: bytes, held: Held) -> Served:
    """For canonical arguments."""
    request = _decode(arguments)
    fields = Fields(((name, value.encode("latin-1")) for name, value in request.headers), immutable=True)
    data = base64.b64decode(request.body)
    held.take(len(data))
    body = IncomingBody(data, held)
    incoming = IncomingRequest(request.method, request.scheme, request.authority, request.path, fields, body)
    return Served((incoming, ResponseOutparam()))


def _decode(arguments: bytes) -> ServedRequest:
    return parse_request(msgspec.json.decode(arguments))


def _error(code: Variant) -> bytes:
    detail = code.case if code.value is None else f"{code.case}: {code.value}"
    problem = {
        "type": "https://perdure.dev/errors/guest-http-error",
        "title": "The guest answered with an error",
        "status": 500,
        "code": "guest-http-error",
        "detail": detail,
        "retryable": False,
    }
    return _encoded(500, [("Content-Type", b"application/problem+json")], json.dumps(problem).encode())


def _whole(response: OutgoingResponse) -> bytes:
    body, data = response.body, b""
    if body is not None:
        data = body.sink.release()
        if not body.finished:
            raise GuestTrapped("the guest did not finish the body of its response", trap="no-response")
    return _encoded(response.status, visible(response.headers.entries), data)


def _encoded(status: int, headers: list[tuple[str, bytes]], body: bytes) -> bytes:
    kept = [(name, value.decode("latin-1")) for name, value in headers]
    return msgspec.json.encode(ServedResponse(status, kept, base64.b64encode(body).decode()))
