"""The HTTP API on port 8080: invoke, component, instances (DESIGN: "The host's HTTP API").

Handlers translate; what a call does is the invoker's business.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from perdure.durable.store import Store
from perdure.errors import InternalError, NoSuchInstance, PerdureError
from perdure.host.functions import FunctionIndex
from perdure.host.http.problems import plain_problem, problem
from perdure.host.http.requests import canonical_arguments, idempotency_key, instance_name, page, read_body
from perdure.host.instances import InstanceTable
from perdure.host.invoker import Call, Invoker
from perdure.host.peers import FORWARDED, ForwardedReply

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class InFlight:
    """Requests being answered now; the drain waits for none."""

    count: int = 0


class Api:
    """Builds the application. `describe` gives the document of `GET /v1/component`; `openapi` is that of
    `GET /openapi.json`."""

    def __init__(
        self,
        *,
        host: str,
        invoker: Invoker,
        functions: FunctionIndex,
        table: InstanceTable,
        store: Store,
        describe: Callable[[], dict[str, object]],
        openapi: Mapping[str, object],
        max_body: int,
    ) -> None:
        self._host = host
        self._invoker = invoker
        self._functions = functions
        self._table = table
        self._store = store
        self._describe = describe
        self._openapi = openapi
        self._max_body = max_body
        self.in_flight = InFlight()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._errors], client_max_size=self._max_body)
        app.router.add_post("/v1/instances/{instance}/functions/{function:.+}", self._invoke)
        app.router.add_get("/v1/component", self._component)
        app.router.add_get("/openapi.json", self._document)
        app.router.add_get("/v1/instances", self._instances)
        app.router.add_get("/v1/instances/{instance}", self._instance)
        app.router.add_delete("/v1/instances/{instance}", self._delete)
        return app

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.in_flight.count += 1
        try:
            return await handler(request)
        except PerdureError as error:
            if error.http_status >= 500:
                log.warning(error.detail, extra={"fields": {"code": error.code, **request.match_info}})
            return problem(error)
        except web.HTTPException as error:
            return plain_problem(
                error.status, error.reason.lower().replace(" ", "-"), f"{request.method} {request.path}"
            )
        except Exception:
            # The last line of defence of the whole process: one bad request never stops the others.
            log.exception("defect while answering", extra={"fields": dict(request.match_info)})
            return problem(InternalError("a defect of the host; its log has the trace"))
        finally:
            self.in_flight.count -= 1

    async def _invoke(self, request: web.Request) -> web.StreamResponse:
        instance = instance_name(request)
        function = self._functions.find(request.match_info["function"])
        body = await read_body(request, self._max_body)
        call = Call(
            instance=instance,
            function=function,
            arguments=canonical_arguments(function, body),
            key=idempotency_key(request),
            path=request.rel_url.raw_path,
            body=body,
            forwarded=FORWARDED in request.headers,
        )
        result = await self._invoker.invoke(call)
        if isinstance(result, ForwardedReply):
            return web.Response(
                body=result.body,
                status=result.status,
                content_type=result.content_type,
                headers=result.headers,
            )
        headers = {"Perdure-Host": self._host}
        if result.stored:
            headers["Idempotency-Replayed"] = "true"
        return web.Response(body=result.body, content_type="application/json", headers=headers)

    async def _component(self, request: web.Request) -> web.StreamResponse:
        return _json(self._describe())

    async def _document(self, request: web.Request) -> web.StreamResponse:
        return _json(self._openapi)

    async def _instances(self, request: web.Request) -> web.StreamResponse:
        cursor, limit = page(request)
        found = await self._store.instances(cursor, limit)
        return _json({"instances": found.names, "cursor": found.cursor})

    async def _instance(self, request: web.Request) -> web.StreamResponse:
        name = instance_name(request)
        info = await self._store.instance(name)
        if info is None:
            raise NoSuchInstance(f"there is no instance {name!r}: its first invocation creates it")
        return _json(
            {
                "name": info.name,
                "sequence": info.sequence,
                "host": info.host,
                "epoch": info.token.epoch,
                "inMemory": self._table.holds(name),
                "journal": {"entries": info.journal_entries, "bytes": info.journal_bytes},
            }
        )

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        name = instance_name(request)
        deleted = await self._store.delete_instance(name)
        self._table.forget(name)
        if not deleted:
            raise NoSuchInstance(f"there is no instance {name!r}")
        return web.Response(status=204)


def _json(document: Mapping[str, object]) -> web.Response:
    return web.Response(body=json.dumps(document).encode(), content_type="application/json")
