"""Saving the resources of wasi:http that a guest may still hold when nothing is under way: scripts drop theirs when
their garbage is collected, long after they are of use.

Fields, options, and messages whose bodies are taken; bodies, streams and futures that are spent. Whatever still has
bytes to give, or to take, is not saved.
"""

from __future__ import annotations

from typing import cast

import msgspec

from perdure.errors import SnapshotError
from perdure.wasi.http.bodies import BodyStream, FutureTrailers, IncomingBody
from perdure.wasi.http.context import HttpContext
from perdure.wasi.http.exchanges import Exchange
from perdure.wasi.http.fields import Fields
from perdure.wasi.http.incoming import IncomingRequest, IncomingResponse
from perdure.wasi.http.outgoing import RequestOptions


def encode(representation: object) -> bytes | None:
    """None: not now, or not of this package."""
    found: tuple[object, ...]
    match representation:
        case Fields():
            found = ("fields", representation.entries, representation.immutable)
        case RequestOptions():
            found = ("options", representation.connect, representation.first_byte, representation.between_bytes)
        case FutureTrailers():
            found = ("trailers", representation.taken)
        case Exchange(taken=True):
            found = ("future",)
        case IncomingResponse(body=None):
            found = ("response", representation.status, representation.headers.entries)
        case IncomingRequest(body=None):
            r = representation
            found = ("request", r.method, r.scheme, r.authority, r.path, r.headers.entries)
        case IncomingBody(spent=True):
            found = ("body",)
        case BodyStream(left=b""):
            found = ("stream",)
        case _:
            return None
    return msgspec.msgpack.encode(found)


def decode(context: HttpContext, data: bytes) -> object:
    """Raises `SnapshotError`."""
    kind, *rest = msgspec.msgpack.decode(data)
    match kind, rest:
        case "fields", [entries, immutable]:
            return _fields(entries, immutable=bool(immutable))
        case "options", [connect, first_byte, between_bytes]:
            options = RequestOptions()
            options.connect, options.first_byte, options.between_bytes = connect, first_byte, between_bytes
            return options
        case "trailers", [taken]:
            trailers = FutureTrailers()
            trailers.taken = bool(taken)
            return trailers
        case "future", []:
            return Exchange.spent(context.http)
        case "response", [status, entries]:
            response = IncomingResponse(status, _fields(entries, immutable=True), _spent(context))
            response.body = None
            return response
        case "request", [method, scheme, authority, path, entries]:
            fields = _fields(entries, immutable=True)
            request = IncomingRequest(method, scheme, authority, path, fields, _spent(context))
            request.body = None
            return request
        case "body", []:
            return _spent(context)
        case "stream", []:
            return BodyStream(_spent(context))
        case _:
            raise SnapshotError(f"a saved resource of wasi:http that is not known here: {kind}", reason="host-resource")


def _fields(entries: object, *, immutable: bool) -> Fields:
    pairs = cast("list[tuple[str, bytes]]", entries)
    return Fields(((name, value) for name, value in pairs), immutable=immutable)


def _spent(context: HttpContext) -> IncomingBody:
    body = IncomingBody(b"", context.http.held)
    body.stream = BodyStream(body)
    body.stream.close()
    return body
