"""Requests for the guest itself: `/http/{instance}/…` goes to its wasi:http/incoming-handler as a durable invocation.

Between hosts such a request travels as a call of the handler, whose argument and result are JSON; only the host that
was asked makes HTTP of the result.
"""

from __future__ import annotations

import base64

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from perdure.component.plan import ExportedFunc
from perdure.durable.faultpoint import Point, reach
from perdure.errors import BadRequest, InternalError, NoSuchFunction
from perdure.host.http.replies import relayed
from perdure.host.http.requests import INSTANCE, check_encoding, idempotency_key, instance_name, read_body
from perdure.host.invoker import Call, Invoker, Target
from perdure.host.peers import ForwardedReply, PeerRequest, call_path
from perdure.wasi.http.messages import MAX_FIELDS, visible
from perdure.wasi.http.serving import ServedRequest, ServedResponse, canonical_request

PREFIX = "/http/"
_OURS = ("perdure-", "idempotency-replayed", "content-length")


def call_size(max_body: int) -> int:
    """Bytes that a request with such a body takes as a call: base64, and fields as JSON."""
    return max_body * 4 // 3 + 8 * MAX_FIELDS


class GuestRoutes:
    """`handler`: what the component exports as wasi:http/incoming-handler, if it does."""

    def __init__(self, *, host: str, invoker: Invoker, handler: ExportedFunc | None, max_body: int) -> None:
        self._host = host
        self._invoker = invoker
        self._handler = handler
        self._max_body = max_body

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", f"{PREFIX}{INSTANCE}{tail}", self._serve) for tail in ("", "/{path:.*}")]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        handler = self._handler
        if handler is None:
            raise NoSuchFunction("the component does not export wasi:http/incoming-handler: it serves no HTTP requests")
        path = _path(request.raw_path)
        check_encoding(request.raw_path.removesuffix(path))
        instance, key = instance_name(request), idempotency_key(request)
        arguments = canonical_request(
            ServedRequest(
                method=request.method,
                scheme="http",
                authority=request.host,
                path=path,
                headers=_headers(request),
                body=base64.b64encode(await read_body(request, self._max_body, coded=True)).decode(),
            )
        )
        result = await self._invoker.invoke(
            self._target(instance, handler, arguments, key), Call(handler, arguments, key)
        )
        reach(Point.REPLYING)
        headers = {"Perdure-Host": self._host}
        if isinstance(result, ForwardedReply):
            if result.status != 200:
                return relayed(result)
            return _response(result.body, {**headers, **result.headers})
        if result.stored:
            headers["Idempotency-Replayed"] = "true"
        return _response(result.body, headers)

    def _target(self, instance: str, handler: ExportedFunc, arguments: bytes, key: str | None) -> Target:
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        path = call_path(instance, handler.path)
        return Target(instance, PeerRequest(path, arguments, headers, repeatable=key is not None), forwarded=False)


def _path(raw: str) -> str:
    """What comes after the instance's name, as it was sent. Raises `BadRequest`."""
    if not raw.startswith(PREFIX):
        raise BadRequest("the request's target must be a path")
    rest = raw.removeprefix(PREFIX).partition("#")[0]
    at = min((found for mark in "/?" if (found := rest.find(mark)) >= 0), default=len(rest))
    return rest[at:] or "/"


def _headers(request: web.Request) -> list[tuple[str, str]]:
    """Without the connection's, and those between hosts."""
    raw = [(name.decode("latin-1"), value) for name, value in request.raw_headers]
    return [(name, value.decode("latin-1")) for name, value in visible(raw) if not name.lower().startswith("perdure-")]


def _response(body: bytes, ours: dict[str, str]) -> web.Response:
    try:
        found = msgspec.json.decode(body, type=ServedResponse)
    except msgspec.DecodeError as error:
        raise InternalError(f"the result of an HTTP request cannot be read: {error}") from error
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in found.headers:
        if not name.lower().startswith(_OURS):
            headers.add(name, value.encode("latin-1").decode("utf-8", "surrogateescape"))
    headers.update(ours)
    return web.Response(status=found.status, headers=headers, body=base64.b64decode(found.body))
