"""Looking inside: an instance's journal, and whether what is stored is sound."""

from __future__ import annotations

from aiohttp import web

from perdure.durable.inspection import Finding
from perdure.errors import NoSuchInstance
from perdure.host.checking import Checked, CheckedStore, ReadablePage, check_instance, check_instances, read_journal
from perdure.host.http.preferences import MAX_WAIT
from perdure.host.http.replies import json_reply
from perdure.host.http.requests import INSTANCE, instance_name, number, page
from perdure.host.http.waiting import Waiting

_FINDINGS = 100
"""Told of one instance; the first ones say where it begins."""


class JournalRoutes:
    """`/v1/instances/{instance}/journal`, `/v1/instances/{instance}/check` and `/v1/check`."""

    def __init__(self, *, store: CheckedStore, waiting: Waiting) -> None:
        self._store = store
        self._waiting = waiting

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"/v1/instances/{INSTANCE}/journal", self._journal),
            web.get(f"/v1/instances/{INSTANCE}/check", self._check),
            web.get("/v1/check", self._check_all),
        ]

    async def _journal(self, request: web.Request) -> web.StreamResponse:
        """Entries after `after`; with `wait`, as soon as there are some. `next` is the `after` of the next page."""
        name = instance_name(request)
        after = number(request, "after", 0, least=0, most=2**53)
        limit = number(request, "limit", 100, least=1, most=1000)
        seconds = number(request, "wait", 0, least=0, most=MAX_WAIT)

        async def look() -> ReadablePage:
            found = await read_journal(self._store, name, after, limit)
            if found is None:
                raise _no_such(name)
            return found

        # Fewer commits than were seen: it was deleted and began anew.
        found = await self._waiting.until(look, lambda it: bool(it.entries) or it.sequence < after, seconds)
        last = found.trimmed if not found.entries else int(str(found.entries[-1]["sequence"]))
        return json_reply(
            {
                "entries": found.entries,
                "trimmed": found.trimmed,
                "sequence": found.sequence,
                "next": min(max(after, last), found.sequence),
            }
        )

    async def _check(self, request: web.Request) -> web.StreamResponse:
        name = instance_name(request)
        found = await check_instance(self._store, name)
        if found is None:
            raise _no_such(name)
        return json_reply(_checked(found))

    async def _check_all(self, request: web.Request) -> web.StreamResponse:
        """A page of instances: how many were looked at, and those with findings."""
        cursor, limit = page(request)
        names = await self._store.instances(cursor, limit)
        found = await check_instances(self._store, names.names)
        bad = [_checked(one) for one in found if one.findings]
        return json_reply({"checked": len(found), "unsound": bad, "cursor": names.cursor})


def _checked(found: Checked) -> dict[str, object]:
    return {
        "name": found.instance,
        "sequence": found.sequence,
        "sound": not found.findings,
        "findings": [_finding(one) for one in found.findings[:_FINDINGS]],
    }


def _finding(found: Finding) -> dict[str, object]:
    return {"sequence": found.sequence, "code": found.code, "detail": found.detail}


def _no_such(name: str) -> NoSuchInstance:
    return NoSuchInstance(f"there is no instance {name!r}, or nothing of it was ever run")
