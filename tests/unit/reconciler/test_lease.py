"""One operator at a time: a lease is taken when it is free or has run out, and given up before it runs out."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any, cast

import pytest

from perdure.reconciler.api import ApiError, Cluster, Kind
from perdure.reconciler.lease import LeaderLost, Leadership

Object = dict[str, Any]


class LeaseServer:
    """One Lease, with optimistic concurrency. `broken`: what happens before each request."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.version = 0
        self.broken: Callable[[], asyncio.Future[None]] | Exception | None = None
        self.writes = 0

    async def _fails(self) -> None:
        if isinstance(self.broken, Exception):
            raise self.broken
        if self.broken is not None:
            await self.broken()

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        await self._fails()
        return copy.deepcopy(self.lease)

    async def create(self, kind: Kind, namespace: str, obj: Object) -> Object:
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "")
        return self._keep(obj)

    async def replace(self, kind: Kind, namespace: str, name: str, obj: Object) -> Object:
        if obj["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError(409, "Conflict", "")
        return self._keep(obj)

    def _keep(self, obj: Object) -> Object:
        self.version += 1
        self.writes += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.lease = obj
        return obj

    @property
    def holder(self) -> str:
        return str((self.lease or {"spec": {}})["spec"].get("holderIdentity"))


def operator(server: LeaseServer, name: str, *, duration: int = 1) -> Leadership:
    return Leadership(cast("Cluster", server), "system", "lease", name, duration=duration, renew=0.02)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.01)


async def test_the_second_waits_until_the_first_has_gone() -> None:
    server = LeaseServer()
    first, second = operator(server, "first"), operator(server, "second")
    await first.acquire()
    holding, waiting = asyncio.create_task(first.hold()), asyncio.create_task(second.acquire())
    await until(lambda: server.writes > 60)  # for longer than the lease lasts
    assert (first.leading, second.leading, server.holder) == (True, False, "first")
    holding.cancel()
    await first.release()
    await waiting
    assert (first.leading, second.leading, server.holder) == (False, True, "second")
    assert server.lease is not None and server.lease["spec"]["leaseTransitions"] >= 2


async def test_a_holder_that_is_gone_without_a_word_is_followed() -> None:
    server = LeaseServer()
    await operator(server, "first").acquire()
    second = operator(server, "second")
    async with asyncio.timeout(20):
        await second.acquire()
    assert server.holder == "second"


@pytest.mark.parametrize("broken", ["refuses", "hangs"])
async def test_a_leader_that_cannot_renew_ends_before_another_begins(broken: str) -> None:
    """Also where the API server takes the request and does not answer: requests may last longer than the lease."""
    server = LeaseServer()
    first, second = operator(server, "first"), operator(server, "second")
    await first.acquire()
    holding, waiting = asyncio.create_task(first.hold()), asyncio.create_task(second.acquire())
    await until(lambda: server.writes > 5)
    ours = copy.copy(server)
    first._cluster = cast("Cluster", ours)  # the first one's connection only
    ours.broken = ApiError(503, "", "") if broken == "refuses" else asyncio.get_running_loop().create_future
    with pytest.raises(LeaderLost):
        async with asyncio.timeout(20):
            await holding
    assert (first.leading, second.leading) == (False, False)
    await waiting
    assert server.holder == "second"


async def test_a_short_failure_is_no_loss() -> None:
    server = LeaseServer()
    first = operator(server, "first", duration=30)
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    server.broken = ApiError(503, "", "")
    await asyncio.sleep(0.2)
    server.broken = None
    before = server.writes
    await until(lambda: server.writes > before)
    assert first.leading and not holding.done()
    holding.cancel()


async def test_two_that_come_together_do_not_both_lead() -> None:
    server = LeaseServer()
    both = [operator(server, name) for name in ("first", "second")]
    tasks = [asyncio.create_task(each.acquire()) for each in both]
    await until(lambda: any(task.done() for task in tasks))
    assert [each.leading for each in both].count(True) == 1
    for task in tasks:
        task.cancel()
