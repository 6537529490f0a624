"""The Worker as a whole: its component, its API's document, and what an update would do to its instances."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from aiohttp import web

from perdure.durable.settings import UpdatePolicy
from perdure.durable.store import WorkerStore
from perdure.errors import BadRequest
from perdure.host.http.replies import json_reply
from perdure.host.updates import preview

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_LOOKED_AT = 32
"""Components that are looked for in the store, the most used first: each is fetched whole."""


class WorkerRoutes:
    """`describe` gives the document of `GET /v1/component`; `openapi` is that of `GET /openapi.json`; `component`: the
    digest that runs."""

    def __init__(
        self,
        *,
        store: WorkerStore,
        describe: Callable[[], dict[str, object]],
        openapi: Mapping[str, object],
        component: str,
        policy: UpdatePolicy,
    ) -> None:
        self._store = store
        self._describe = describe
        self._openapi = openapi
        self._component = component
        self._policy = policy

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/component", self._shown),
            web.get("/openapi.json", self._document),
            web.get("/v1/update", self._update),
        ]

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        return json_reply(self._describe())

    async def _document(self, request: web.Request) -> web.StreamResponse:
        return json_reply(self._openapi)

    async def _update(self, request: web.Request) -> web.StreamResponse:
        """A dry run: nothing is changed. `component`, `policy`: other ones than the present."""
        policy, target = self._asked(request)
        instances = await self._store.components()
        # Under Restart a host keeps no component for later.
        available = {target} if self._policy is UpdatePolicy.RESTART else {target, self._component}
        if policy is not UpdatePolicy.RESTART:
            wanted = sorted(instances, key=lambda digest: -instances[digest])[:_LOOKED_AT]
            for digest in wanted:
                if digest not in available and digest and await self._store.component(digest) is not None:
                    available.add(digest)
        return json_reply(preview(policy, target, instances, frozenset(available)))

    def _asked(self, request: web.Request) -> tuple[UpdatePolicy, str]:
        text = request.query.get("policy", self._policy.value)
        digest = request.query.get("component", self._component)
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise BadRequest("component must be a digest: sha256: and 64 hexadecimal digits")
        try:
            return UpdatePolicy(text), f"sha256:{match.group(1)}"
        except ValueError:
            raise BadRequest(f"policy must be one of {', '.join(UpdatePolicy)}") from None
