"""The HTTP API on port 8080 (DESIGN: "The host's HTTP API"): the routes of each subject, and errors as problems.

Handlers translate; what a request does is the business of `host`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from aiohttp import web

from perdure.errors import InternalError, PerdureError, ResultMismatch
from perdure.host.http.connections import begin
from perdure.host.http.guests import PREFIX
from perdure.host.http.problems import plain_problem, problem
from perdure.host.http.requests import COMING, Coming, check_encoding

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes(Protocol):
    """The routes of one subject."""

    def routes(self) -> list[web.RouteDef]: ...


class Api:
    """Builds the application."""

    def __init__(self, subjects: Sequence[Routes], *, max_body: int) -> None:
        self._subjects = subjects
        self._max_body = max_body
        self._answering: set[asyncio.Task[object]] = set()

    @property
    def in_flight(self) -> int:
        """Requests being answered now; the drain waits for none."""
        return len(self._answering)

    async def abandon(self) -> None:
        """End what is still being answered when the listener is gone: the call of a client that went away goes on."""
        tasks = list(self._answering)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._errors], client_max_size=self._max_body)
        app[COMING] = Coming()
        for subject in self._subjects:
            app.router.add_routes(subject.routes())
        return app

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        begin(request)
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            if not request.raw_path.startswith(PREFIX):
                check_encoding(request.raw_path)
            return await handler(request)
        except PerdureError as error:
            if error.http_status >= 500:
                trace = isinstance(error, ResultMismatch)
                log.warning(error.detail, exc_info=trace, extra={"fields": {"code": error.code, **request.match_info}})
            return problem(error)
        except web.HTTPException as error:
            code, detail = error.reason.lower().replace(" ", "-"), f"{request.method} {request.path}"
            return plain_problem(error.status, code, detail, allow=error.headers.get("Allow"))
        except Exception:
            # The last line of defence of the whole process: one bad request never stops the others.
            log.exception("defect while answering", extra={"fields": dict(request.match_info)})
            return problem(InternalError("a defect of the host; its log has the trace"))
        finally:
            self._answering.discard(task)
