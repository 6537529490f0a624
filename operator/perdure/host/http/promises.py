"""Promises: what became of one, and completing it. Any host answers: it is all in the home store."""

from __future__ import annotations

from aiohttp import web

from perdure.durable.faultpoint import Point, reach
from perdure.durable.promises import COMPLETED, FAILED, PENDING, Completion, complete, instance_of, look
from perdure.durable.store import BucketStore
from perdure.errors import BadRequest, NoSuchPromise, PromiseCompleted
from perdure.host.http.replies import json_reply
from perdure.host.http.requests import read_body
from perdure.host.inbox import Wakes

MAX_ID = 512


class PromiseRoutes:
    """`/v1/promises`. `retention_ms`: of completions."""

    def __init__(self, *, store: BucketStore, wakes: Wakes, max_body: int, retention_ms: int) -> None:
        self._store = store
        self._wakes = wakes
        self._max_body = max_body
        self._retention_ms = retention_ms

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/promises/{promise}", self._show),
            web.post("/v1/promises/{promise}", self._complete),
            web.post("/v1/promises/{promise}/failure", self._fail),
        ]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        promise = _promise(request)
        found = await look(self._store, promise)
        if found is None:
            raise _unknown(promise)
        return json_reply(_document(promise, found))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        """The body, whatever it is, is what the guest gets."""
        return await self._completed(request, COMPLETED + await read_body(request, self._max_body))

    async def _fail(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, self._max_body)
        try:
            body.decode()
        except UnicodeDecodeError:
            raise BadRequest("the body must be UTF-8 text that says why the promise failed") from None
        return await self._completed(request, FAILED + body)

    async def _completed(self, request: web.Request, completion: bytes) -> web.StreamResponse:
        promise = _promise(request)
        done = await complete(self._store, promise, completion, self._retention_ms)
        reach(Point.PROMISE_AFTER)
        if done is Completion.UNKNOWN:
            raise _unknown(promise)
        if done is Completion.OTHER:
            raise PromiseCompleted(f"promise {promise} was completed before, with something else")
        self._wakes.resume(instance_of(promise) or "")
        return json_reply(_document(promise, completion))


def _promise(request: web.Request) -> str:
    promise = request.match_info["promise"]
    if len(promise) > MAX_ID or instance_of(promise) is None:
        raise NoSuchPromise("that is no promise's id; `perdure:durable/promises.create` gives one")
    return promise


def _unknown(promise: str) -> NoSuchPromise:
    return NoSuchPromise(
        f"there is no promise {promise}: the call that made it has not passed a gate yet, its instance was deleted, or "
        "it was completed longer than durability.resultRetention ago"
    )


def _document(promise: str, state: bytes) -> dict[str, object]:
    document: dict[str, object] = {"promise": promise, "instance": instance_of(promise)}
    match state[:1]:
        case b"?":
            assert state == PENDING
            return {**document, "state": "pending"}
        case b"-":
            return {**document, "state": "failed", "failure": state[1:].decode()}
        case _:
            return {**document, "state": "completed", "bytes": len(state) - 1}
