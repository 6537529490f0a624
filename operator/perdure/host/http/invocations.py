"""Asynchronous calls: what became of one, which wait, and taking one back."""

from __future__ import annotations

from aiohttp import web

from perdure.durable.inbox import Cancelled
from perdure.errors import NoSuchInvocation, NotAcceptable, NotCancellable
from perdure.host.functions import FunctionIndex
from perdure.host.http.media import Media, call_reply, wanted_media
from perdure.host.http.preferences import preferences
from perdure.host.http.replies import call_document, json_reply
from perdure.host.http.requests import INSTANCE, KEY, instance_name, invocation_key, number
from perdure.host.http.waiting import Waiting
from perdure.host.inbox import CallStatus, Inbox


class InvocationRoutes:
    """`/v1/instances/{instance}/invocations`. Any host answers: it is all in the home store."""

    def __init__(self, *, inbox: Inbox, functions: FunctionIndex, waiting: Waiting) -> None:
        self._inbox = inbox
        self._functions = functions
        self._waiting = waiting

    def routes(self) -> list[web.RouteDef]:
        every = f"/v1/instances/{INSTANCE}/invocations"
        one = f"{every}/{KEY}"
        return [
            web.get(every, self._list),
            web.get(one, self._show),
            web.delete(one, self._cancel),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        limit = number(request, "limit", 100, least=1, most=1000)
        found = await self._inbox.waiting(instance_name(request), limit)
        return json_reply({"invocations": [call_document(status) for status in found]})

    async def _show(self, request: web.Request) -> web.StreamResponse:
        instance, key = instance_name(request), invocation_key(request)
        seconds, wanted = preferences(request).wait, wanted_media(request)
        function = request.query.get("function")
        func = None if function is None else self._functions.find(function)

        async def look() -> CallStatus | None:
            return await self._inbox.status(instance, key)

        status = await self._waiting.until(look, lambda found: found is None or found.state.finished, seconds)
        if status is None:
            raise _unknown(instance, key)
        applied = {"Preference-Applied": f"wait={seconds}"} if seconds else {}
        document = call_document(status)
        if "result" in document and func is None and not wanted.json:
            raise NotAcceptable(
                "what function a call was of is not kept once it has ended, and CBOR needs it: name it "
                f"(?function=…), or accept {Media.JSON}"
            )
        return call_reply(document, func, wanted, headers={**applied, "Vary": "Accept"})

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        instance, key = instance_name(request), invocation_key(request)
        match await self._inbox.cancel(instance, key):
            case Cancelled.CANCELLED:
                return json_reply({"key": key, "state": "cancelled"})
            case Cancelled.BEGUN:
                raise NotCancellable(f"the call {key!r} has begun: a part of it is durable, and it will be finished")
            case Cancelled.FINISHED:
                raise NotCancellable(f"the call {key!r} has ended")
            case Cancelled.UNKNOWN:
                raise _unknown(instance, key)


def _unknown(instance: str, key: str) -> NoSuchInvocation:
    return NoSuchInvocation(
        f"instance {instance!r} has no call {key!r}: it was never accepted, was cancelled, or its result is past "
        "durability.resultRetention"
    )
