"""Calls that guests make to other instances: the same way as one that came over HTTP."""

from __future__ import annotations

import json

from perdure.durable.caller import InstanceCall
from perdure.errors import PerdureError
from perdure.host.functions import FunctionIndex
from perdure.host.http.requests import canonical_arguments, checked_name
from perdure.host.invoker import Call, Invoker, Target
from perdure.host.peers import CALLERS, ForwardedReply, PeerRequest, call_path


class RemoteFailure(PerdureError):
    """What another host answered. `code`, `retryable`: as its problem document says; of a stored failure its cause."""

    def __init__(self, code: str, detail: str, *, retryable: bool) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]
        self.retryable = retryable  # type: ignore[misc]


class InstanceCaller:
    """Implements `perdure.durable.caller.Caller`, once it is `connect`ed."""

    def __init__(self, functions: FunctionIndex) -> None:
        self._functions = functions
        self._invoker: Invoker | None = None

    def connect(self, invoker: Invoker) -> None:
        self._invoker = invoker

    async def call(self, call: InstanceCall) -> bytes:
        """See `Caller.call`."""
        assert self._invoker is not None
        instance = checked_name(call.instance)
        function = self._functions.find(call.function)
        arguments = canonical_arguments(function, call.arguments)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": call.key,
            CALLERS: ",".join(call.callers),
        }
        request = PeerRequest(call_path(instance, function.path), arguments, headers, repeatable=True)
        result = await self._invoker.invoke(
            Target(instance, request, forwarded=False), Call(function, arguments, call.key, call.callers)
        )
        if not isinstance(result, ForwardedReply):
            return result.body
        if result.status != 200:
            raise _failure(result)
        return result.body


def _failure(reply: ForwardedReply) -> RemoteFailure:
    try:
        found = json.loads(reply.body)
        return RemoteFailure(
            str(found.get("cause", found["code"])), str(found["detail"]), retryable=bool(found["retryable"])
        )
    except (ValueError, KeyError, TypeError):
        return RemoteFailure("http-error", f"a host answered {reply.status}", retryable=reply.status >= 500)
