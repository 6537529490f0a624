"""Calls of functions: carried out before the reply, or accepted to be carried out."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from aiohttp import web

from perdure.durable.calls import CallPayload, encode
from perdure.durable.faultpoint import Point, reach
from perdure.durable.inbox import Accepted, NewCall
from perdure.durable.journal import call_fingerprint
from perdure.errors import InvocationTimeout, ProviderUnavailable
from perdure.host.functions import FunctionIndex
from perdure.host.http.guests import call_size
from perdure.host.http.media import Media, Wanted, body_media, call_reply, result_reply, wanted_media
from perdure.host.http.preferences import SCHEDULE_AT, preferences, scheduled_ms
from perdure.host.http.replies import call_document, invocation_path, once, relayed
from perdure.host.http.requests import (
    INSTANCE,
    callers,
    canonical_arguments,
    idempotency_key,
    instance_name,
    read_body,
)
from perdure.host.inbox import CallStatus, Inbox, State
from perdure.host.invoker import Call, Invoker, Target
from perdure.host.peers import CALLERS, FORWARDED, ForwardedReply, PeerRequest
from perdure.wasi.http.serving import is_handler

RESPOND_ASYNC = "respond-async"


class CallRoutes:
    """`POST /v1/instances/{instance}/functions/{function}`."""

    def __init__(
        self,
        *,
        host: str,
        invoker: Invoker,
        inbox: Inbox,
        functions: FunctionIndex,
        max_body: int,
        wall_ms: Callable[[], int],
    ) -> None:
        self._host = host
        self._invoker = invoker
        self._inbox = inbox
        self._functions = functions
        self._max_body = max_body
        self._wall_ms = wall_ms

    def routes(self) -> list[web.RouteDef]:
        return [web.post(f"/v1/instances/{INSTANCE}/functions/{{function:.+}}", self._call)]

    async def _call(self, request: web.Request) -> web.StreamResponse:
        instance = instance_name(request)
        function = self._functions.find(request.match_info["function"])
        media, wanted = body_media(request), wanted_media(request)
        body = await read_body(request, call_size(self._max_body) if is_handler(function) else self._max_body)
        call = Call(function, canonical_arguments(function, body, media), idempotency_key(request), callers(request))
        due_ms = scheduled_ms(request)
        if due_ms is not None or preferences(request).respond_async:
            return await self._accept(request, instance, call, body, due_ms, wanted)
        result = await self._invoker.invoke(_target(request, instance, body, call.key), call)
        reach(Point.REPLYING)
        if isinstance(result, ForwardedReply):
            return relayed(result)
        headers = {"Perdure-Host": self._host}
        if result.stored:
            headers["Idempotency-Replayed"] = "true"
        return result_reply(function, result.body, wanted, headers)

    async def _accept(
        self, request: web.Request, instance: str, call: Call, body: bytes, due_ms: int | None, wanted: Wanted
    ) -> web.StreamResponse:
        """202 when the store has the call, with where it can be looked at. A key is made for a call without one."""
        key = call.key or str(uuid.uuid4())
        now = self._wall_ms()
        # What is late already does not overtake what has waited for longer.
        due_ms = due_ms if due_ms is not None and due_ms > now else None
        path = call.function.path
        payload = encode(CallPayload(path, call.arguments, now))
        new = NewCall(key, call_fingerprint(path, call.arguments), payload, due_ms)
        try:
            accepted = await self._invoker.accept(_target(request, instance, body, key), new)
        except ProviderUnavailable as error:
            if error.untouched:
                raise
            raise error.in_doubt(key=call.key is not None) from error
        except InvocationTimeout as error:
            if call.key is None:
                error.not_again()
            raise
        if isinstance(accepted, ForwardedReply):
            # The peer was given a key that this request does not have.
            return relayed(accepted if call.key is not None else once(accepted))
        status = None
        location = invocation_path(instance, key, path if wanted.best is Media.CBOR else "")
        headers = {"Location": location, "Perdure-Host": self._host}
        if accepted is not Accepted.ACCEPTED:
            headers["Idempotency-Replayed"] = "true"
            status = await self._inbox.status(instance, key)
        if preferences(request).respond_async:
            headers["Preference-Applied"] = RESPOND_ASYNC
        if status is None:
            status = CallStatus(key, State.PENDING, path, attempts=0, due_ms=due_ms or now, accepted_ms=now)
        return call_reply(call_document(status), call.function, wanted, status=202, headers=headers)


def _target(request: web.Request, instance: str, body: bytes, key: str | None) -> Target:
    headers = {"Content-Type": body_media(request).value}
    if "Accept" in request.headers:
        headers["Accept"] = ",".join(request.headers.getall("Accept"))
    if key is not None:
        headers["Idempotency-Key"] = key
    if preferences(request).respond_async:
        headers["Prefer"] = RESPOND_ASYNC
    if CALLERS in request.headers:
        headers[CALLERS] = request.headers[CALLERS]
    if SCHEDULE_AT in request.headers:
        headers[SCHEDULE_AT] = request.headers[SCHEDULE_AT]
    forwarded = FORWARDED in request.headers
    return Target(instance, PeerRequest(request.rel_url.raw_path, body, headers, repeatable=key is not None), forwarded)
