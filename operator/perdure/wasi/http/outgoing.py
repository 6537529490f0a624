"""Requests and responses that a guest makes, and the options of a request."""

from __future__ import annotations

import re

from perdure.component.types import Err, Ok, Variant
from perdure.wasi.http.bodies import BodySink, OutgoingBody
from perdure.wasi.http.context import HttpContext
from perdure.wasi.http.fields import Fields
from perdure.wasi.http.messages import AUTHORITY, PATH, TOKEN
from perdure.wasi.state import WasiContext

_LENGTH = re.compile(rb"[0-9]{1,15}")


class OutgoingMessage:
    """`headers` cannot be changed any more. `body`: once it was asked for."""

    def __init__(self, headers: Fields) -> None:
        headers.immutable = True
        self.headers = headers
        self.body: OutgoingBody | None = None


class OutgoingRequest(OutgoingMessage):
    """The resource `outgoing-request`."""

    def __init__(self, headers: Fields) -> None:
        super().__init__(headers)
        self.method = Variant("get")
        self.path: str | None = None
        self.scheme: Variant | None = None
        self.authority: str | None = None


class OutgoingResponse(OutgoingMessage):
    """The resource `outgoing-response`."""

    def __init__(self, headers: Fields) -> None:
        super().__init__(headers)
        self.status = 200


class RequestOptions:
    """The resource `request-options`; nanoseconds."""

    def __init__(self) -> None:
        self.connect: int | None = None
        self.first_byte: int | None = None
        self.between_bytes: int | None = None


def new_request(ctx: WasiContext, headers: Fields) -> OutgoingRequest:
    return OutgoingRequest(headers)


def new_response(ctx: WasiContext, headers: Fields) -> OutgoingResponse:
    return OutgoingResponse(headers)


def body(ctx: HttpContext, message: OutgoingMessage) -> Ok | Err:
    """Once; and not where its Content-Length is none."""
    if message.body is not None:
        return Err()
    lengths = message.headers.values("content-length")
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        return Err()
    http = ctx.http
    # Recorded, so that another bound in the manifest does not change the past.
    limit = ctx.wasi.recorder.record("http.body", (), lambda: http.max_body)
    assert isinstance(limit, int)
    message.body = OutgoingBody(BodySink(limit, http.held, int(lengths[0]) if lengths else None))
    return Ok(message.body)


def headers_of(ctx: WasiContext, message: OutgoingMessage) -> Fields:
    return Fields(message.headers.entries, immutable=True)


def drop(ctx: WasiContext, message: OutgoingMessage) -> None:
    """It was not sent: what was written is let go."""
    if message.body is not None:
        message.body.give_up()


def method(ctx: WasiContext, request: OutgoingRequest) -> Variant:
    return request.method


def set_method(ctx: WasiContext, request: OutgoingRequest, value: Variant) -> Ok | Err:
    if value.case == "other" and not TOKEN.fullmatch(str(value.value)):
        return Err()
    request.method = value
    return Ok()


def path(ctx: WasiContext, request: OutgoingRequest) -> str | None:
    return request.path


def set_path(ctx: WasiContext, request: OutgoingRequest, value: str | None) -> Ok | Err:
    if value and not PATH.fullmatch(value):
        return Err()
    request.path = value
    return Ok()


def scheme(ctx: WasiContext, request: OutgoingRequest) -> Variant | None:
    return request.scheme


def set_scheme(ctx: WasiContext, request: OutgoingRequest, value: Variant | None) -> Ok | Err:
    if value is not None and value.case == "other":
        return Err()
    request.scheme = value
    return Ok()


def authority(ctx: WasiContext, request: OutgoingRequest) -> str | None:
    return request.authority


def set_authority(ctx: WasiContext, request: OutgoingRequest, value: str | None) -> Ok | Err:
    if value is not None and not AUTHORITY.fullmatch(value):
        return Err()
    request.authority = value
    return Ok()


def status(ctx: WasiContext, response: OutgoingResponse) -> int:
    return response.status


def set_status(ctx: WasiContext, response: OutgoingResponse, value: int) -> Ok | Err:
    if not 200 <= value <= 599:
        return Err()
    response.status = value
    return Ok()


def new_options(ctx: WasiContext) -> RequestOptions:
    return RequestOptions()


def connect_timeout(ctx: WasiContext, options: RequestOptions) -> int | None:
    return options.connect


def set_connect_timeout(ctx: WasiContext, options: RequestOptions, value: int | None) -> Ok:
    options.connect = value
    return Ok()


def first_byte_timeout(ctx: WasiContext, options: RequestOptions) -> int | None:
    return options.first_byte


def set_first_byte_timeout(ctx: WasiContext, options: RequestOptions, value: int | None) -> Ok:
    options.first_byte = value
    return Ok()


def between_bytes_timeout(ctx: WasiContext, options: RequestOptions) -> int | None:
    return options.between_bytes


def set_between_bytes_timeout(ctx: WasiContext, options: RequestOptions, value: int | None) -> Ok:
    options.between_bytes = value
    return Ok()
