"""Routing: here or at a peer, once more when fenced, and less often where another live host keeps taking it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure.durable.control import Verb
from perdure.durable.inbox import Accepted, NewCall
from perdure.durable.records import HostRecord
from perdure.errors import Fenced, HostLeaving, InvocationTimeout, ProviderUnavailable
from perdure.host.invoker import Invoker, Target
from perdure.host.metrics import HostMetrics
from perdure.host.ownership import Ownership
from perdure.host.peers import ForwardedReply, PeerRequest, PeerUnreachable

ME, OTHER = HostRecord("me", "http://me"), HostRecord("other", "http://other")
REPLY = ForwardedReply(200, b"{}", "application/json", {})
CALL = NewCall("k", b"f" * 32, b"p")


class Parts:
    """Table, inbox, membership and peers in one, each as far as routing looks at it."""

    def __init__(self, *hosts: HostRecord, timeout: float = 30.0) -> None:
        self.me = ME
        self.hosts = hosts or (ME,)
        self.leaving = False
        self.fences = 0
        self.reachable = True
        self.did: list[str] = []
        self.held = False
        self.takes = 0.0
        self.metrics = HostMetrics()
        self.ownership = Ownership(self.metrics.ownership_conflict, first=0.1)
        parts: Any = self
        self.invoker = Invoker(parts, parts, parts, parts, self.ownership, self.metrics, timeout=timeout)

    def resume(self, instance: str) -> None:
        """As `Inbox.resume`."""

    def holds(self, name: str) -> bool:
        return self.held

    async def control(self, name: str, verb: Verb) -> None:
        self.did.append(verb.value)
        await asyncio.sleep(self.takes)
        if self.fences:
            self.fences -= 1
            raise Fenced("taken")

    async def accept(self, instance: str, call: NewCall) -> Accepted:
        self.did.append("accept")
        return Accepted.ACCEPTED

    async def forward(
        self, peer: HostRecord, request: PeerRequest, *, deadline: float, listed: Callable[[], bool]
    ) -> ForwardedReply:
        self.did.append(f"forward to {peer.host}")
        assert listed()
        if not self.reachable:
            raise PeerUnreachable(peer.host)
        return REPLY

    def conflicts(self) -> float:
        return self.metrics.registry.get_sample_value("perdure_ownership_conflicts_total") or 0.0


def target(*, forwarded: bool = False) -> Target:
    return Target("a", PeerRequest("/x", b"", {}, repeatable=True), forwarded)


async def test_it_is_done_here_or_where_the_instance_is() -> None:
    here, there = Parts(ME), Parts(OTHER)
    assert await here.invoker.control(target(), Verb.RESUME) is None
    assert await here.invoker.accept(target(), CALL) is Accepted.ACCEPTED
    assert here.did == ["resume", "accept"]
    assert await there.invoker.control(target(), Verb.RESUME) is REPLY
    assert await there.invoker.accept(target(), CALL) is REPLY
    assert there.did == ["forward to other"] * 2


async def test_one_hop_and_a_peer_that_does_not_answer() -> None:
    parts = Parts(OTHER)
    assert await parts.invoker.accept(target(forwarded=True), CALL) is Accepted.ACCEPTED
    parts.reachable = False
    assert await parts.invoker.accept(target(), CALL) is Accepted.ACCEPTED
    assert parts.did == ["accept", "forward to other", "accept"]


async def test_a_host_that_is_leaving_takes_nothing_from_its_peers() -> None:
    parts = Parts(ME)
    parts.leaving = True
    with pytest.raises(HostLeaving):
        await parts.invoker.accept(target(forwarded=True), CALL)
    assert await parts.invoker.accept(target(), CALL) is Accepted.ACCEPTED


async def test_fenced_once_it_looks_again() -> None:
    parts = Parts(ME)
    parts.fences = 1
    await parts.invoker.control(target(), Verb.RESET)
    assert parts.did == ["reset", "reset"] and parts.conflicts() == 0


async def test_fenced_for_ever_it_gives_up() -> None:
    parts = Parts(ME)
    parts.fences = 99
    with pytest.raises(ProviderUnavailable, match="keeps moving"):
        await parts.invoker.control(target(), Verb.RESET)
    assert len(parts.did) == 4 and parts.conflicts() >= 1


async def test_in_a_conflict_the_claim_waits_and_accepting_does_not() -> None:
    parts = Parts(ME)
    parts.fences = 3
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await parts.invoker.control(target(), Verb.RESET)
    assert loop.time() - begun >= 0.05 and parts.conflicts() == 1
    parts.fences = 1
    waiting = asyncio.ensure_future(parts.invoker.control(target(), Verb.RESET))
    while not parts.ownership.delay("a") > 0:
        await asyncio.sleep(0)
    did = len(parts.did)
    await parts.invoker.accept(target(), CALL)
    assert parts.did[did:] == ["accept"]
    await waiting


async def test_while_it_waits_the_membership_may_learn() -> None:
    parts = Parts(ME)
    parts.fences = 3
    task = asyncio.ensure_future(parts.invoker.control(target(), Verb.RESET))
    while parts.conflicts() == 0:
        await asyncio.sleep(0.005)
    parts.hosts = (OTHER,)
    assert await task is REPLY


async def test_what_it_holds_it_need_not_claim() -> None:
    parts = Parts(ME)
    parts.fences = 3
    parts.held = True
    await parts.invoker.control(target(), Verb.RESET)
    assert parts.did == ["reset"] * 4


async def test_a_wait_beyond_the_deadline_is_told_at_once() -> None:
    parts = Parts(ME, timeout=0.2)
    parts.ownership = Ownership(parts.metrics.ownership_conflict, first=5.0)
    parts.invoker._ownership = parts.ownership
    parts.fences = 3
    with pytest.raises(ProviderUnavailable) as refused:
        await parts.invoker.control(target(), Verb.RESET)
    assert refused.value.retry_after > 1


async def test_what_takes_too_long_is_told() -> None:
    parts = Parts(ME, timeout=0.1)
    parts.takes = 60.0
    with pytest.raises(InvocationTimeout, match="reset was not carried out in time"):
        await parts.invoker.control(target(), Verb.RESET)
