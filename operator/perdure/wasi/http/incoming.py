"""Requests and responses that a guest gets, and where it puts its answer to one."""

from __future__ import annotations

from perdure.component.traps import HostTrap
from perdure.component.types import Err, Ok, Variant
from perdure.wasi.http.bodies import IncomingBody
from perdure.wasi.http.fields import Fields
from perdure.wasi.http.messages import method_variant
from perdure.wasi.http.outgoing import OutgoingResponse
from perdure.wasi.state import WasiContext


class IncomingMessage:
    """`body` until it is consumed."""

    def __init__(self, headers: Fields, body: IncomingBody) -> None:
        self.headers = headers
        self.body: IncomingBody | None = body


class IncomingResponse(IncomingMessage):
    """The resource `incoming-response`."""

    def __init__(self, status: int, headers: Fields, body: IncomingBody) -> None:
        super().__init__(headers, body)
        self.status = status


class IncomingRequest(IncomingMessage):
    """The resource `incoming-request`."""

    def __init__(
        self, method: str, scheme: str, authority: str, path: str, headers: Fields, body: IncomingBody
    ) -> None:
        super().__init__(headers, body)
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.path = path


class ResponseOutparam:
    """The resource `response-outparam`. `response`: what the guest has set."""

    def __init__(self) -> None:
        self.response: OutgoingResponse | Variant | None = None


def headers_of(ctx: WasiContext, message: IncomingMessage) -> Fields:
    return Fields(message.headers.entries, immutable=True)


def consume(ctx: WasiContext, message: IncomingMessage) -> Ok | Err:
    body, message.body = message.body, None
    return Err() if body is None else Ok(body)


def drop(ctx: WasiContext, message: IncomingMessage) -> None:
    if message.body is not None:
        message.body.release()


def status(ctx: WasiContext, response: IncomingResponse) -> int:
    return response.status


def method(ctx: WasiContext, request: IncomingRequest) -> Variant:
    return method_variant(request.method)


def path(ctx: WasiContext, request: IncomingRequest) -> str:
    return request.path


def scheme(ctx: WasiContext, request: IncomingRequest) -> Variant:
    return Variant("HTTPS" if request.scheme == "https" else "HTTP")


def authority(ctx: WasiContext, request: IncomingRequest) -> str:
    return request.authority


def set_response(ctx: WasiContext, outparam: ResponseOutparam, response: Ok | Err) -> None:
    if outparam.response is not None:
        raise HostTrap("the guest set a response-outparam twice")
    value = response.value
    assert isinstance(value, (OutgoingResponse, Variant))
    outparam.response = value
