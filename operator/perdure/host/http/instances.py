"""Instances: list, show, delete, and what an operator may do with one."""

from __future__ import annotations

from aiohttp import web

from perdure.durable.control import Verb
from perdure.durable.records import InstanceInfo
from perdure.durable.store import InstanceStore
from perdure.errors import NoSuchInstance
from perdure.host.deletions import Deletions
from perdure.host.http.replies import instance_document, json_reply, relayed
from perdure.host.http.requests import INSTANCE, instance_name, page
from perdure.host.instances import InstanceTable
from perdure.host.invoker import Invoker, Target
from perdure.host.peers import FORWARDED, ForwardedReply, PeerRequest

_VERBS = "|".join(verb.value for verb in Verb)
_ONCE = (Verb.SKIP,)
"""Verbs that do something else when they are repeated."""


class InstanceRoutes:
    """`/v1/instances`."""

    def __init__(
        self,
        *,
        host: str,
        store: InstanceStore,
        table: InstanceTable,
        invoker: Invoker,
        deletions: Deletions,
    ) -> None:
        self._host = host
        self._store = store
        self._table = table
        self._invoker = invoker
        self._deletions = deletions

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/instances", self._list),
            web.get(f"/v1/instances/{INSTANCE}", self._show),
            web.delete(f"/v1/instances/{INSTANCE}", self._delete),
            web.post(f"/v1/instances/{INSTANCE}/{{verb:{_VERBS}}}", self._control),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        cursor, limit = page(request)
        found = await self._store.instances(cursor, limit)
        return json_reply({"instances": found.names, "cursor": found.cursor})

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return json_reply(self._document(await require_instance(self._store, instance_name(request))))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        name = instance_name(request)
        sent = PeerRequest(request.rel_url.raw_path, b"", {}, repeatable=False, method="DELETE")
        wholly = await self._invoker.delete(Target(name, sent, FORWARDED in request.headers), self._deletions.delete)
        if isinstance(wholly, ForwardedReply):
            return relayed(wholly)
        return web.Response(status=204 if wholly else 202)

    async def _control(self, request: web.Request) -> web.StreamResponse:
        """The instance as it is afterwards."""
        name, verb = instance_name(request), Verb(request.match_info["verb"])
        sent = PeerRequest(request.rel_url.raw_path, b"", {}, repeatable=verb not in _ONCE)
        reply = await self._invoker.control(Target(name, sent, FORWARDED in request.headers), verb)
        if isinstance(reply, ForwardedReply):
            return relayed(reply)
        info = await self._store.instance(name)
        if info is None and verb is Verb.RESUME:
            # Its first call was interrupted: resumed, it is what it was before that.
            info = InstanceInfo.of_nothing(name)
        if info is None:
            raise _no_such(name)
        return json_reply(self._document(info), headers={"Perdure-Host": self._host})

    def _document(self, info: InstanceInfo) -> dict[str, object]:
        return instance_document(info, in_memory=self._table.in_memory(info.name))


async def require_instance(store: InstanceStore, name: str) -> InstanceInfo:
    """Raises `NoSuchInstance`."""
    info = await store.instance(name)
    if info is None:
        raise _no_such(name)
    return info


def _no_such(name: str) -> NoSuchInstance:
    return NoSuchInstance(f"there is no instance {name!r}: its first invocation creates it")
